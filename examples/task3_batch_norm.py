"""
Task 3d: with and without batch norm
====================================

The report found that batch norm helped most, and the assignment asks for both runs in one figure:
training and validation loss of model 2 without and with it. The report's test accuracy was about 75
% without batch norm and 79 % with it.

Everything else is the same, and the two runs of a pair share their seed: the order of the images,
and the random numbers that the initial weights are drawn from.

.. recorded::

With batch norm the loss falls faster from the first steps on, and the validation loss gets lower;
the bands are the standard deviation over the seeds. Without it the network is *slower*, not
hopeless: the assignment allows ten epochs, and early stopping usually ends a run before that.

.. code-block:: sh

    python examples/task3_batch_norm.py
    python examples/task3_batch_norm.py --results results    # reads the recorded runs
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_batch_norm/task3d.webp"
from _example import Options, accuracy, print_origin, run_example
from experiments import EXPERIMENTS, WITH_NORM

import cifarzoo as zoo
from cifarzoo.evaluation.statistics import paired_difference

LABELS = {
    "without batch norm": EXPERIMENTS["model2_without_batch_norm"],
    "with batch norm": WITH_NORM,
}


def batch_norm(options: Options) -> None:
    """Print the effect of batch norm and plot both in one figure."""
    runs = {label: options.runs(experiment) for label, experiment in LABELS.items()}
    for label, each in runs.items():
        print(f"{label:<20} {each[0].params:>8,} parameters")

    before, after = ([accuracy(run, "test") for run in each] for each in runs.values())
    points = [f"{100 * (new - old):+.2f}" for new, old in zip(after, before, strict=True)]
    print(f"points of test accuracy that batch norm adds, by seed: {'  '.join(points)}")
    effect = paired_difference(after, before)
    print(f"mean: {100 * effect.mean:+.2f} (report: about +4)")
    if effect.low is not None and effect.high is not None:
        print(f"95 % interval: {100 * effect.low:+.2f} to {100 * effect.high:+.2f}")
    print_origin([run for each in runs.values() for run in each])
    histories = {label: [run.history for run in each] for label, each in runs.items()}
    figure = zoo.viz.plot_histories(histories, title="Task 3d: model 2 and batch norm")
    description = "Losses and validation accuracy of model 2 with and without batch norm."
    options.save(figure, "task3d.png", description)


if __name__ == "__main__":
    run_example(batch_norm, "Task 3d: batch norm.", seeds="0,1,2")
