"""The models with weights, as models of timm: `timm.create_model("cifarzoo_resnet20")`.

Importing this module registers them. timm normalises images outside the model, so these are the
networks without their preprocessing; `pretrained_cfg` has its mean, std and size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cifarzoo.card import ModelCard, Weights
from cifarzoo.data import CLASS_NAMES
from cifarzoo.errors import InvalidValueError, MissingExtraError
from cifarzoo.registry import build_on_meta, list_models, model_card
from cifarzoo.weights import packaged_file, verify_file

try:
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
except ImportError as error:
    raise MissingExtraError('timm is not installed: pip install "cifarzoo[timm]"') from error

__all__: list[str] = []  # timm adds the names of the models


def _pretrained_cfg(card: ModelCard, weights: Weights) -> dict[str, Any]:
    from safetensors import safe_open

    path = packaged_file(card.name, weights.tag)
    with safe_open(path, "pt") as file:
        constants = {key: file.get_tensor(f"preprocess.{key}").flatten() for key in ("mean", "std")}
    model = build_on_meta(card)
    side = model.preprocess.size or 32
    heads = [n for n, module in model.network.named_modules() if isinstance(module, nn.Linear)]
    test = weights.run.test
    assert test is not None  # checked when the weights were created
    return {
        "file": str(path),
        "mean": tuple(constants["mean"].tolist()),
        "std": tuple(constants["std"].tolist()),
        "input_size": (3, side, side),
        "num_classes": len(test.per_class),
        "label_names": CLASS_NAMES.get(weights.data),
        "classifier": heads[-1],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "license": "mit",
        "description": card.summary,
    }


_CARDS = [card for card in map(model_card, list_models()) if card.weights]
# By the file's path.
_SHA256 = {str(packaged_file(c.name, each.tag)): each.sha256 for c in _CARDS for each in c.weights}

default_cfgs = generate_default_cfgs(
    {f"cifarzoo_{c.name}.{w.tag}": _pretrained_cfg(c, w) for c in _CARDS for w in c.weights}
)


def _entry_point(card: ModelCard) -> Callable[..., nn.Module]:
    """Return the function by which timm builds a network."""

    def build(num_classes: int, in_chans: int = 3) -> nn.Module:
        if in_chans != 3:
            raise InvalidValueError(f"in_chans is {in_chans}: expected 3")
        network = card.builder(num_classes).network
        network.num_classes = num_classes  # type: ignore[assignment] # timm reads it
        return network

    def create(pretrained: bool = False, **options: Any) -> nn.Module:  # noqa: ANN401 - timm's
        return build_model_with_cfg(
            build, create.__name__, pretrained, pretrained_filter_fn=_network_state, **options
        )

    create.__name__ = create.__qualname__ = f"cifarzoo_{card.name}"
    create.__doc__ = card.summary
    return create


def _network_state(state: Mapping[str, Tensor], network: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Verify the packaged file, and return the network's part of it."""
    if (path := network.pretrained_cfg.get("file")) in _SHA256:
        verify_file(Path(path), _SHA256[path])
    names = (name for name in state if not name.startswith("preprocess."))
    return {name.removeprefix("network."): state[name] for name in names}


for _card in _CARDS:
    _create = _entry_point(_card)
    globals()[_create.__name__] = register_model(_create)
