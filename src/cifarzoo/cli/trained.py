"""Models with trained weights, and the test images that they are scored on."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from cifarzoo.card import DEFAULT
from cifarzoo.cli.console import log
from cifarzoo.cli.options import DataName
from cifarzoo.data.loader import TensorLoader
from cifarzoo.errors import WeightsError
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.models.transfer import TransferClassifier
from cifarzoo.recipe import Recipe
from cifarzoo.registry import build_from_card, build_on_meta, model_card
from cifarzoo.run import load_data
from cifarzoo.validation import expand_path
from cifarzoo.weights import packaged_file, read_metadata, read_state_dict

__all__ = ["load_test", "load_trained"]


def load_trained(
    name: str, weights: str, data: DataName | None
) -> tuple[ImageClassifier, str, DataName]:
    """Build a model with trained weights.

    Args:
        name: the model's name.
        weights: a tag or a file.
        data: the data set; None for the one in the file's metadata, or else CIFAR-10.

    Returns:
        The model on the CPU in evaluation mode, the tag (never "default") or file of its weights,
        and the name of the data set.

    Raises:
        InvalidValueError: there is no such model.
        WeightsError: there are no such weights, or they are a backbone's alone.
    """
    card, path = model_card(name), expand_path("weights", weights)
    outline = build_on_meta(card)
    if packaged := card.weights_for(weights):
        weights, path = packaged.tag, packaged_file(name, packaged.tag)
    elif weights == DEFAULT:
        raise WeightsError(
            f"the package has no weights of {name}: train it with cifarzoo train {name}, then pass "
            "the file weights.safetensors of the run"
        )
    elif isinstance(outline, TransferClassifier):  # its head would be random
        names = read_state_dict(path) if path.is_file() else ("network.",)
        is_published = weights in [entry.tag for entry in outline.published]
        if is_published or not any(name.startswith("network.") for name in names):
            raise WeightsError(
                f"{weights} contains only the backbone of {name}: expected weights of the whole "
                f"model; train it with: cifarzoo train {name} --weights {weights}"
            )
    model = build_from_card(card, weights)
    trained_on = read_metadata(path).get("data")
    known: tuple[DataName, ...] = get_args(DataName)
    if data not in (None, trained_on) and trained_on in known:
        log(f"warning: these weights were trained on {trained_on}, not on {data}")
    default: DataName = next((each for each in known if each == trained_on), "cifar10")
    return model, weights, data or default


def load_test(
    data: DataName, *, root: Path | None, limit: int | None, download: bool
) -> TensorLoader:
    """Load the test images of a data set; the arguments are those of `load_data`."""
    recipe = Recipe(batch_size=1)  # suits any number of training images, which are not used
    return load_data(data, recipe, root=root, limit=limit, download=download).test
