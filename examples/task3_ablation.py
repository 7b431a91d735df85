"""
Task 3c: what helped, and what did not
======================================

The assignment asks which changes improved the network and which did not. The report answers in
words, from changes that were made one after another: batch norm helped most, more filters and
dropout helped, fewer filters and extra layers hurt.

Here the question is put as an experiment: each change is made **alone** to the baseline of task 2,
over three seeds. The two runs of a pair share their seed, so the same images come in the same
order; what is printed is the mean difference of their test accuracies and its 95 % interval.

.. recorded::

Half the filters hurt; so far ours and the report agree. In these runs dropout and a fourth block,
which the report counts among what hurt, help as well. In a second set of runs, by
``cifarzoo report`` on one thread with the same seeds (``results/``), the intervals of both hold
zero, and half the filters and batches of 32 alone lie clear of it. Eight changes are tested here:
in one of three such tables an interval misses zero by chance alone.

Where the interval holds zero, these runs cannot tell the change from none, and three seeds make
wide intervals. That is the point: most claims of half a point in a report like this one, ours or
anybody's, are within the noise of a single run.

.. code-block:: sh

    python examples/task3_ablation.py
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_ablation/task3c.webp"
from dataclasses import replace
from functools import partial

from _arguments import Arguments, turn, written

import cifarzoo as zoo

BASELINE = zoo.model_card("report_baseline")

LAYOUTS = {  # the change, the network, what the report says of it
    "batch norm": (zoo.Layout(block_norm="batch"), "helped most"),
    "twice the filters": (zoo.Layout(filters=(64, 128, 256)), "helped"),
    "half the filters": (zoo.Layout(filters=(16, 32, 64)), "hurt"),
    "dropout 10 %": (zoo.Layout(dropout=0.1), "helped"),
    "a fourth block": (zoo.Layout(filters=(32, 64, 128, 256)), "hurt"),
    "a second hidden layer": (zoo.Layout(hidden=(64, 64)), "hurt"),
}
BATCH_SIZES = {  # images per step, instead of 64
    "batches of 32": (32, "helped, with the first two"),
    "batches of 128": (128, "nothing"),
}


def changed(layout: zoo.Layout) -> zoo.ModelCard:
    """Give the baseline's card with another network."""
    return replace(BASELINE, name="changed", builder=partial(zoo.report_model, layout))


def with_batches(size: int) -> zoo.ModelCard:
    """Give the baseline's card with another batch size."""
    return replace(BASELINE, recipe=replace(BASELINE.recipe, batch_size=size))


def ablation(args: Arguments) -> None:
    """Print the difference that each change makes, and draw what the two best ones do."""
    base, curves = measure(BASELINE, args)
    histories = {"baseline": curves}
    differences: dict[str, float] = {}
    print(f"baseline: test accuracy {written(base, '.2%')}, seeds {args.seeds}\n")
    print(f"{'change':<22} {'points':>7} {'95 % interval':>16}   the report says")
    cards = {change: (changed(layout), says) for change, (layout, says) in LAYOUTS.items()}
    cards |= {change: (with_batches(size), says) for change, (size, says) in BATCH_SIZES.items()}
    for change, (card, says) in cards.items():
        accuracies, histories[change] = measure(card, args)
        found = zoo.paired_difference(accuracies, base)
        differences[change] = found.mean
        ends = [f"{100 * end:+.2f}" for end in (found.low, found.high) if end is not None]
        interval = " to ".join(ends) or "one seed"
        print(f"{change:<22} {100 * found.mean:>+7.2f} {interval:>16}   {says}", flush=True)

    best = sorted(differences, key=lambda change: -differences[change])[:2]
    shown = {label: histories[label] for label in ("baseline", *best)}
    figure = zoo.viz.plot_histories(shown, title="Task 3c: what helps most")
    says = "Curves of the baseline and of the two changes that help it most, mean and spread."
    args.save(figure, "task3c.png", says)


def measure(card: zoo.ModelCard, args: Arguments) -> tuple[list[float], list[zoo.History]]:
    """Train over the seeds; give the test accuracies and the curves."""
    runs = [args.run(card, seed) for seed in args.seeds]
    return [run.test.accuracy for run in runs if run.test], [run.history for run in runs]


if __name__ == "__main__":
    turn(ablation, "Task 3c: one change at a time.", seeds="0,1,2")
