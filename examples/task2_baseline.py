"""Task 2: a baseline of three convolutions and two linear layers, trained by plain SGD.

    python examples/task2_baseline.py
    python examples/task2_baseline.py --data shapes --quick     # a trial run, without any data
    python examples/task2_baseline.py --seeds 0,1,2             # with an error bar

2a asks for the loss curves, 2b for the final accuracies. The state with the lowest validation loss
is kept, and the test set is looked at once.
"""

from _arguments import Arguments, turn, written

import cifarzoo as zoo

REPORT = {"train": 0.8353, "val": 0.7344, "test": 0.7251}


def baseline(args: Arguments) -> None:
    """Train it, print 2b, draw 2a."""
    card = zoo.model_card("report_baseline")
    runs = [args.run(card, seed) for seed in args.seeds]

    print(f"The network: {zoo.count_params(runs[0].model):,} parameters")
    for row in zoo.layer_table(runs[0].model):
        if row.params:
            print(f"  {row.name:<22} {row.params:>8,} parameters {row.macs:>11,} MACs")

    print(f"\n2b  {'accuracy':<10} {'ours':>16} {'report':>8}")
    for split, reported in REPORT.items():
        scores = [getattr(run, split).accuracy for run in runs]
        print(f"    {split:<10} {written(scores, '.2%'):>16} {reported:>8.2%}")

    for run in runs:
        history = run.history
        print(f"\nseed {run.seed}: {run.test}")
        print(f"  {history.steps:,} steps ({history.stopped}), kept that of {history.best_step:,};")
        print(f"  {history.seconds:.0f} s, {history.images_per_second:,.0f} images/s")
    curves = zoo.viz.plot_history(runs[0].history, title="Task 2a")
    args.save(curves, "task2a.png", "Loss and accuracy of the baseline against training step.")


if __name__ == "__main__":
    turn(baseline, "Task 2: the baseline.")
