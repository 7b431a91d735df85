"""`cifarzoo evaluate`: score trained weights on the test set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cifarzoo.cli import options
from cifarzoo.cli.console import interval, percent, say, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cifarzoo.record import Evaluation

__all__ = ["evaluate_command"]


def evaluate_command(
    name: options.Name,
    weights: options.Weights = "default",
    data: options.WeightsData = None,
    root: options.Root = None,
    limit: options.Limit = None,
    tta: options.Tta = "none",
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    no_download: options.NoDownload = False,
    cards: options.Cards = None,
    json: options.Json = False,
) -> None:
    """Score a model on the test set: accuracy, interval, loss, calibration, classes.

    In float32, scores on different machines agree.
    """
    from cifarzoo.cli.trained import load_test, load_trained
    from cifarzoo.evaluation.evaluate import evaluate
    from cifarzoo.run import provenance

    model, weights, data = load_trained(name, weights, data)
    origin = provenance(device, precision)
    test = load_test(data, root=root, limit=limit, download=not no_download)
    classes = test.classes or ()
    scores = [
        evaluate(model, test, device=device, precision=precision, tta=each)
        for each in dict.fromkeys(("none", tta))
    ]
    if json:
        show_json(
            {
                "model": name,
                "weights": weights,
                "data": data,
                "limit": limit,
                "classes": classes,
                "test": scores[0],
                "test_tta": None if tta == "none" else scores[1],
                "provenance": origin,
            }
        )
        return
    say(f"{name}, weights {weights}, on {test.n:,} test images of {data}")
    say()
    figures = ("accuracy", "95 % interval", "loss", "calibration error")
    show_table(("", *figures), map(_row, scores), numbers=figures)
    say()
    header = ("class", "accuracy", "images", "most frequent error")
    show_table(header, _class_rows(scores[0], classes), numbers=header[1:3])


def _row(score: Evaluation) -> tuple[str, ...]:
    return (
        "single view" if score.tta == "none" else score.tta,
        percent(score.accuracy),
        interval(score.interval),
        f"{score.loss:.4f}",
        percent(score.calibration_error),
    )


def _class_rows(score: Evaluation, classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a row per class, with the class that it is most often mistaken for."""
    assert score.confusion is not None
    rows: list[tuple[str, ...]] = []
    for i, counts in enumerate(score.confusion.tolist()):
        n = sum(counts)
        worst = max((j for j in range(len(counts)) if j != i), key=counts.__getitem__)
        error = f"{classes[worst]} ({percent(counts[worst] / n)})" if counts[worst] else "-"
        rows.append((classes[i], percent(score.per_class[i]), f"{n:,}", error))
    return rows
