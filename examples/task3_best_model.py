"""
Task 3e, 3f: the best network, and its overfitting
==================================================

- **3e** Reach 80 % test accuracy within ten epochs, and plot the validation accuracy.
- **3f** Does the network overfit or underfit?

The best network is model 2 with 128, 128 and 256 filters, and batch norm in its head. The report
adds that a higher dropout probability let the validation loss follow the training loss longer, but
lowered the test accuracy; here it is 30 % instead of 10 %.

.. recorded::

It overfits. The training loss keeps falling while the validation loss stagnates; the second figure
shows the gap between the two as one curve, for both dropout probabilities. The gap is negative at
first, because the training loss is a mean over the steps before a check, while the network still
improves, and because dropout acts in training only.

With more dropout, the gap opens later, and training stops after nine or ten epochs rather than six.
Unlike in the report, the test accuracy rises, by 2.3 points on average and with every seed.

The confusion matrix of the first seed shows which mistakes are left. Cats and dogs are confused
most often, with every seed; what follows differs between seeds.

.. code-block:: sh

    python examples/task3_best_model.py
    python examples/task3_best_model.py --results results    # reads the recorded run
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_best_model/task3e_confusion.webp"
from _example import Options, accuracy, print_accuracies, print_origin, run_example
from experiments import EXPERIMENTS

import cifarzoo as zoo
from cifarzoo.data.cifar import CLASSES
from cifarzoo.data.shapes import SHAPE_CLASSES
from cifarzoo.evaluation.statistics import paired_difference
from cifarzoo.record import RunRecord


def print_losses(title: str, runs: list[RunRecord]) -> None:
    """Print the losses of each run at the first and the last check."""
    for run in runs:
        train = [check.train_loss for check in run.history.checks]
        val = [check.val_loss for check in run.history.checks if check.val_loss is not None]
        losses = f"{train[0]:>18.3f} {train[-1]:.3f} {min(val):>23.3f} {val[-1]:.3f}"
        print(f"    {title}, seed {run.seed} {losses} {val[-1] - train[-1]:>+10.3f}")


def best_model(options: Options) -> None:
    """Print the final figures; plot the curves, the gap and the confusion matrix."""
    experiment = EXPERIMENTS["best"]
    runs, more = options.runs(experiment), options.runs(EXPERIMENTS["best_dropout_30"])
    print_accuracies("3e", experiment, runs)
    named = {"dropout of 10 %": runs, "dropout of 30 %": more}
    print(
        "\n3f  losses                   training, first and last   validation, lowest and last  gap"
    )
    for title, each in named.items():
        print_losses(title, each)
    after, before = ([accuracy(run, "test") for run in each] for each in (more, runs))
    effect = paired_difference(after, before)
    print(f"\ndropout of 30 %: {100 * effect.mean:+.2f} points of test accuracy")
    if effect.low is not None and effect.high is not None:
        print(f"95 % interval: {100 * effect.low:+.2f} to {100 * effect.high:+.2f} points")
    print_origin([*runs, *more])

    histories = {title: [run.history for run in each] for title, each in named.items()}
    curves = zoo.viz.plot_histories(
        {"best model": histories["dropout of 10 %"]}, title="Task 3e: the best model"
    )
    options.save(curves, "task3e.png", "Loss and validation accuracy of the best model.")
    gap = zoo.viz.plot_gap(histories, title="Task 3f: overfitting")
    options.save(
        gap, "task3f.png", "Validation loss minus training loss, with less and more dropout."
    )
    if runs[0].test:
        names = SHAPE_CLASSES if options.data == "shapes" else CLASSES
        confusion = zoo.viz.plot_confusion(runs[0].test, names)
        options.save(confusion, "task3e_confusion.png", "Confusion matrix of the best model.")


if __name__ == "__main__":
    run_example(best_model, "Tasks 3e and 3f: the best model.")
