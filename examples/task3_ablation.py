"""
Task 3c: what helped, and what did not
======================================

The assignment asks which changes improved the network and which did not. The report answers in
words, from changes that were made one after another: batch norm helped most, more filters and
dropout helped, fewer filters and extra layers hurt.

Here the question becomes an experiment: each change is made **alone** to the baseline of task 2,
with three seeds. The two runs of a pair share their seed, so they see the same images in the same
order. The table shows the mean difference of their test accuracies with its 95 % interval.

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
from _example import Options, accuracy, print_origin, run_example, summarize
from experiments import ABLATION, EXPERIMENTS

import cifarzoo as zoo
from cifarzoo.evaluation.statistics import paired_difference


def ablation(options: Options) -> None:
    """Print the effect of each change; plot the two that help most."""
    runs = {"baseline": options.runs(EXPERIMENTS["baseline"])}
    before = [accuracy(run, "test") for run in runs["baseline"]]
    print(f"baseline: test accuracy {summarize(before)}, seeds {options.seeds}\n")
    print(f"{'change':<22} {'points':>7} {'95 % interval':>16}   the report says")
    effects = {}
    for experiment in ABLATION:
        runs[experiment.title] = options.runs(experiment)
        after = [accuracy(run, "test") for run in runs[experiment.title]]
        effect = paired_difference(after, before)
        effects[experiment.title] = effect.mean
        interval = "one seed"
        if effect.low is not None and effect.high is not None:
            interval = f"{100 * effect.low:+.2f} to {100 * effect.high:+.2f}"
        claim = experiment.claim or "nothing"
        print(
            f"{experiment.title:<22} {100 * effect.mean:>+7.2f} {interval:>16}   {claim}",
            flush=True,
        )

    print_origin([run for each in runs.values() for run in each])
    best = sorted(effects, key=lambda title: -effects[title])[:2]
    histories = {title: [run.history for run in runs[title]] for title in ("baseline", *best)}
    figure = zoo.viz.plot_histories(histories, title="Task 3c: what helps most")
    description = "Curves of the baseline and of the two changes that help most: mean and spread."
    options.save(figure, "task3c.png", description)


if __name__ == "__main__":
    run_example(ablation, "Task 3c: one change at a time.", seeds="0,1,2")
