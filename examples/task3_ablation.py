"""
Task 3c: what helped, and what did not
======================================

The assignment asks which changes improved the network and which did not. The report answers in
words, from changes that were made one after another: batch norm helped most, more filters and
dropout helped, fewer filters and extra layers hurt.

Here the question becomes an experiment: each change is made **alone** to the baseline of task 2,
with three seeds. The two runs of a pair share their seed, so they see the same images in the same
order, and everything else, down to the number of threads. The table shows the mean differences of
their validation and test accuracies in points, and the 95 % interval of the latter. The validation
accuracy decides which changes the figure shows.

.. recorded::

Two intervals exclude zero: half the filters hurt, as the report says, and so do batches of 32
alone, which the report combines with batch norm and more filters. Everything else is undecided.
Dropout, twice the filters and batch norm gain one to two points on average, but with three seeds
the intervals are wide. Eight changes are tested here; if none had an effect, about
one in three such tables would still contain an interval that excludes zero.

That is the lesson of this task: most claims of half a point in a report like this one, ours
included, are within the noise of a single run.

.. code-block:: sh

    python examples/task3_ablation.py
    python examples/task3_ablation.py --results results    # reads the recorded runs
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_ablation/task3c.webp"
from _example import Options, accuracy, print_origin, run_example
from experiments import ABLATION, NO_CHANGE

import cifarzoo as zoo
from cifarzoo.evaluation.statistics import paired_difference


def ablation(options: Options) -> None:
    """Print the effect of each change; plot the two that help most on the validation split."""
    before = options.runs(NO_CHANGE)
    runs, gains = {"baseline": before}, dict[str, float]()
    print(f"{'change':<22} {'val':>6} {'test':>6} {'95 % interval':>16}   the report says")
    for experiment in ABLATION:
        after = runs[experiment.title] = options.runs(experiment)
        val, test = (
            paired_difference(*([accuracy(run, split) for run in each] for each in (after, before)))
            for split in ("val", "test")
        )
        gains[experiment.title] = val.mean
        interval = "one seed"
        if test.low is not None and test.high is not None:
            interval = f"{100 * test.low:+.2f} to {100 * test.high:+.2f}"
        points = f"{100 * val.mean:>+6.2f} {100 * test.mean:>+6.2f}"
        claim = experiment.claim or "nothing"
        print(f"{experiment.title:<22} {points} {interval:>16}   {claim}", flush=True)

    print_origin([run for each in runs.values() for run in each])
    best = sorted(gains, key=lambda title: -gains[title])[:2]
    histories = {title: [run.history for run in runs[title]] for title in ("baseline", *best)}
    figure = zoo.viz.plot_histories(histories, title="Task 3c: what helps most")
    description = "Curves of the baseline and of the two changes that help most: mean and spread."
    options.save(figure, "task3c.png", description)


if __name__ == "__main__":
    run_example(ablation, "Task 3c: one change at a time.", seeds="0,1,2")
