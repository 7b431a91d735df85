"""
Task 2: a baseline
==================

Three convolutions of 5 × 5 with 32, 64 and 128 filters, each with a ReLU and a 2 × 2 max pooling;
then a hidden layer of 64 units. Plain SGD with a learning rate of 0.05 and batches of 64 trains it
for at most ten epochs.

- **2a** Draw the training and the validation loss against the training step.
- **2b** Give the final accuracies on the training, validation and test images.

The loss is looked at twice an epoch on 5,000 held-out images. Training stops early where, of the
last four validation losses, the first is the lowest; the weights with the lowest one are kept. The
test set is looked at once, at the end.

.. recorded::

After some two thousand steps the training loss is the lower one, and the gap between the two
widens: the network learns its training images better than what they have in common with others. The
dotted line marks the weights that were kept, those of the lowest validation loss; all scores are
theirs.

How far are our figures from the report's? The interval behind the test accuracy is the one that
10,000 images allow; runs of other seeds differ by about as much. ``--seeds 0,1,2`` gives the mean
with its standard deviation.

.. code-block:: sh

    python examples/task2_baseline.py
    python examples/task2_baseline.py --data shapes --quick     # a trial run, without any data
    python examples/task2_baseline.py --seeds 0,1,2             # with an error bar
"""

# sphinx_gallery_thumbnail_path = "recorded/task2_baseline/task2a.webp"
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
