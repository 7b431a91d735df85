"""The report's plots, each drawn from the recorded runs, with words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from cifarzoo.data.cifar10 import CLASSES
from cifarzoo.data.shapes import SHAPE_CLASSES
from cifarzoo.report.filters import FILTER_FILES
from cifarzoo.report.pictures import Picture, curves_picture, framed_picture, stored_picture
from cifarzoo.report.summary import Summary
from cifarzoo.report.words import number, seeds_words

__all__ = ["page_pictures"]

_RUNNING = (
    "Training figures are means over the steps since the check before, as the network was trained."
)


def page_pictures(found: Mapping[str, Summary], folder: Path) -> dict[str, Picture]:
    """Draw what there are runs for.

    Args:
        found: the experiments, by key.
        folder: of the results, where the pictures of tasks 4b and 4c are.

    Returns:
        Pictures by the part of the report that they belong to.
    """
    better = _better(found["model1"], found["model2"])
    drawn = {
        "2a": _curves(found["baseline"]),
        "3b": None if better is None else _curves(better),
        "3d": _before_and_after(found["model2_without_batch_norm"], found["model2"]),
        "3e": _curves(found["best"]),
        "3e-confusion": _confusion(found["best"]),
        "3f": _gap(found["best"]),
    }
    drawn |= {f"4a-{key}": _curves(each) for key, each in found.items() if each.task == "4a"}
    stored = {
        Path(name).stem.removeprefix("task"): stored_picture(folder / name, alt=alt, caption=alt)
        for name, alt in FILTER_FILES.items()
        if (folder / name).is_file()
    }
    return {name: picture for name, picture in drawn.items() if picture is not None} | stored


def _better(*models: Summary) -> Summary | None:
    """Choose by the validation split: the test set chooses nothing."""
    ranked = [(found.mean, model) for model in models if (found := model.estimate("val_accuracy"))]
    return max(ranked, key=lambda pair: pair[0], default=(0.0, None))[1]


def _curves(summary: Summary) -> Picture | None:
    from cifarzoo.viz import plot_histories, plot_history

    histories = summary.histories
    if not histories:
        return None

    if len(histories) == 1:
        figure = plot_history(histories[0], title="")
    else:
        figure = plot_histories({summary.title: histories})
    return curves_picture(figure, alt=_curves_alt(summary), caption=_curves_caption(summary))


def _curves_caption(summary: Summary) -> str:
    several = len(summary.seeds) > 1
    spread = "; lines are means, bands one standard deviation" if several else ""
    return f"{summary.title}, {seeds_words(summary.seeds)}{spread}. {_RUNNING}"


def _curves_alt(summary: Summary) -> str:
    course = summary.course
    if course is None:
        return f"Curves of loss and accuracy of {summary.title} against the training step."
    return (
        f"Curves of loss and accuracy of {summary.title} against the training step. Training loss "
        f"goes from {number(course.train_first)} to {number(course.train_last)}; validation loss "
        f"falls from {number(course.val_first)} to {number(course.val_lowest)} and ends at "
        f"{number(course.val_last)}; validation accuracy reaches "
        f"{number(course.val_accuracy, 1, 100)} %."
    )


def _before_and_after(before: Summary, after: Summary) -> Picture | None:
    from cifarzoo.viz import plot_histories

    named = {"without batch norm": before.histories, "with batch norm": after.histories}
    if not all(named.values()):
        return None
    return curves_picture(
        plot_histories(named),
        alt=f"Model 2 without and with batch norm. {_curves_alt(before)} {_curves_alt(after)}",
        caption=f"Model 2 without and with batch norm, {seeds_words(after.seeds)}. {_RUNNING}",
    )


def _gap(summary: Summary) -> Picture | None:
    from cifarzoo.viz import plot_gap

    histories, course = summary.histories, summary.course
    if course is None:
        return None
    first, last = course.val_first - course.train_first, course.val_last - course.train_last
    return curves_picture(
        plot_gap(histories),
        alt=(
            f"The gap between validation and training loss of {summary.title} against the training "
            f"step: {number(first)} at the first check, {number(last)} at the last."
        ),
        caption=(
            f"Validation loss less training loss, {seeds_words(summary.seeds)}. The training loss "
            "is a mean over the steps before the check, so the gap may begin under zero."
        ),
    )


def _confusion(summary: Summary) -> Picture | None:
    from cifarzoo.viz import plot_confusion

    counted = [r.test.confusion for r in summary.records if r.test and r.test.confusion]
    if not counted:
        return None
    total = torch.tensor(counted).sum(0)
    names = {"cifar10": CLASSES, "shapes": SHAPE_CLASSES}.get(summary.records[0].data)
    return framed_picture(
        plot_confusion(total, names, values="percent", title=f"{summary.title}: test images"),
        alt=(
            f"Confusion matrix of {summary.title}: a row per true class, a column per predicted "
            "one, in percent of the true class."
        ),
        caption=f"Which classes are taken for which, {seeds_words(summary.seeds)} together.",
    )
