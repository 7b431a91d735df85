"""
Task 3e, 3f: the best network, and its overfitting
==================================================

- **3e** Reach 80 % test accuracy within ten epochs, and draw the validation accuracy.
- **3f** Does the network overfit or underfit?

The best network is model 2 with 128, 128 and 256 filters, and batch norm in its head.

.. recorded::

It overfits. The training loss falls on while the validation loss stagnates; the second picture
shows the gap between the two as one curve. It begins below zero, for the training loss is a mean
over the steps before a check while the network still improves, and dropout acts in training only.

The confusion matrix says what kind of mistakes are left. Cats and dogs are taken for each other
most of all; far behind come vehicles that are taken for other ones.

.. code-block:: sh

    python examples/task3_best_model.py
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_best_model/task3e_confusion.webp"
from _arguments import Arguments, turn, written

import cifarzoo as zoo

REPORT = {"train": 0.9242, "val": 0.8148, "test": 0.8117}


def best_model(args: Arguments) -> None:
    """Print the final figures; draw the curves, the gap and the confusion matrix."""
    runs = [args.run(zoo.model_card("report_best"), seed) for seed in args.seeds]

    print(f"3e  {'accuracy':<10} {'ours':>16} {'report':>8}")
    for split, reported in REPORT.items():
        scores = [getattr(run, split).accuracy for run in runs]
        print(f"    {split:<10} {written(scores, '.2%'):>16} {reported:>8.2%}")

    print("\n3f  losses   training, first and last   validation, lowest and last   last gap")
    for run in runs:
        first, last = (run.history.checks[i].train_loss for i in (0, -1))
        losses = [check.val_loss for check in run.history.checks if check.val_loss is not None]
        train, val = f"{first:.3f} {last:.3f}", f"{min(losses):.3f} {losses[-1]:.3f}"
        print(f"    seed {run.seed} {train:>26} {val:>29} {losses[-1] - last:>+10.3f}")

    histories = [run.history for run in runs]
    curves = zoo.viz.plot_histories({"best model": histories}, title="Task 3e: the best model")
    args.save(curves, "task3e.png", "Loss and validation accuracy of the best model.")
    gap = zoo.viz.plot_gap(histories, title="Task 3f: overfitting")
    args.save(gap, "task3f.png", "Validation loss less training loss: the gap opens as it trains.")
    if runs[0].test:
        names = args.loaders().test.classes
        confusion = zoo.viz.plot_confusion(runs[0].test, names)
        args.save(confusion, "task3e_confusion.png", "Confusion matrix of the best model.")


if __name__ == "__main__":
    turn(best_model, "Tasks 3e and 3f: the best model.")
