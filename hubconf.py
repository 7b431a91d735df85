"""Entry points for `torch.hub`: one per model, named like it."""

from __future__ import annotations

import pathlib
import sys
from collections import abc

_SOURCE = str(pathlib.Path(__file__).parent / "src")
sys.path.insert(0, _SOURCE)  # torch.hub downloads the repository, but does not install it
try:
    import cifarzoo as zoo
finally:
    sys.path.remove(_SOURCE)

dependencies = [
    "torch",
    "torchvision",
    "numpy",
    "safetensors",
    "pydantic",
    "typing_extensions",
    "lazy_loader",
]


def _entry_point(name: str) -> abc.Callable[..., zoo.ImageClassifier]:
    def build(
        *, weights: str | pathlib.Path | None = None, num_classes: int | None = None
    ) -> zoo.ImageClassifier:
        return zoo.build_model(name, weights=weights, num_classes=num_classes)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""{zoo.model_card(name).summary}

    Args:
        weights: None for random weights, "default" for the best CIFAR-10 weights in the package,
            another tag, or the path of a file.
        num_classes: length of the logits; None for that of the weights, and 10 without weights.

    Returns:
        A model in evaluation mode from images, uint8 (N,3,H,W) or float in [0, 1], to logits.
    """
    return build


globals().update({name: _entry_point(name) for name in zoo.list_models()})
