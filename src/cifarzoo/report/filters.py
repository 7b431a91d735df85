"""Tasks 4b and 4c: what ResNet-18 looks for in an image; nothing is trained for them."""

from __future__ import annotations

from pathlib import Path

import torch

from cifarzoo.errors import DownloadError, WeightsError
from cifarzoo.registry import build_model, model_card
from cifarzoo.report.experiments import FILTERS_KEY
from cifarzoo.report.folder import remove_failure, write_bytes, write_failure
from cifarzoo.report.pictures import png_of, source_of
from cifarzoo.report.provenance import weights_label
from cifarzoo.report.record import Failure

__all__ = ["FILTER_FILES", "draw_filters", "filters_drawn"]

# Names of the files in a folder of results, and what they show.
FILTER_FILES = {
    "task4b.png": "Filters 14, 26, 32, 49 and 52 of the first convolution, each above the "
    "activation map that it makes of the test pattern: a zone plate and gratings.",
    "task4c.png": "The test pattern and the first ten activation maps of the last convolutional "
    "stage, 7×7 pixels each.",
}

_MODEL = "resnet18_transfer"
_FILTERS = (14, 26, 32, 49, 52)
_MAPS = tuple(range(10))


def filters_drawn(folder: Path, weights: str | Path | None) -> bool:
    """Tell whether the pictures are there, drawn from these weights."""
    source = weights_label(weights or _default_weights())
    return all(source_of(folder / name) == source for name in FILTER_FILES)


def draw_filters(folder: Path, weights: str | Path | None) -> Failure | None:
    """Draw the first convolution's filters and the last stage's maps.

    Args:
        folder: of the results.
        weights: a tag or a file of ResNet-18's weights; None takes the card's.

    Returns:
        None; or, where weights could not be had, the note of it, which is written as well.

    Raises:
        ResultsError: the files cannot be written.
    """
    try:
        _draw(folder, weights or _default_weights())
    except (DownloadError, WeightsError) as error:
        failure = Failure.of(FILTERS_KEY, 0, error)
        write_failure(failure, folder)
        return failure
    remove_failure(folder, FILTERS_KEY, 0)
    return None


def _default_weights() -> str:
    default = model_card(_MODEL).initial_weights
    assert default is not None
    return default


def _draw(folder: Path, weights: str | Path) -> None:
    from cifarzoo.viz import orientation_pattern, plot_activations, plot_filter_responses

    with torch.random.fork_rng(devices=[]):  # random weights are drawn first, and put back
        model = build_model(_MODEL, weights=weights)
    origin = Path(weights).name  # a page tells nothing of its maker's folders
    image = orientation_pattern()
    title = f"ResNet-18's first convolution (weights: {origin})"
    first = plot_filter_responses(model, image, "conv1", _FILTERS, title=title)
    title = f"ResNet-18's last stage (weights: {origin})"
    last = plot_activations(model, image, "layer4", _MAPS, title=title)
    for name, figure in zip(FILTER_FILES, (first, last), strict=True):
        write_bytes(folder / name, png_of(figure, source=weights_label(weights)))
