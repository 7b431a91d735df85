"""Shell completion of models and tags, without importing torch."""

from __future__ import annotations

from pathlib import Path

from typer import Context

import cifarzoo

__all__ = ["RECIPES", "complete_model", "complete_recipe", "complete_weights"]

# The tags of each model's recipes. The cards have them as well, but importing those takes seconds.
RECIPES = {
    "densenet40_k12_bc": ("standard",),
    "mobilenet_v2": ("standard",),
    "preact_resnet18": ("standard",),
    "report_baseline": ("standard",),
    "report_best": ("standard",),
    "report_model1": ("standard",),
    "report_model2": ("standard",),
    "resnet18_transfer": ("standard",),
    "resnet20": ("standard", "long", "distilled"),
    "resnet32": ("standard",),
    "resnet56": ("standard",),
    "sprint_l": ("standard",),
    "sprint_m": ("standard", "long"),
    "sprint_m3": ("standard",),
    "sprint_s": ("standard",),
    "tiny_m": ("standard",),
    "tiny_s": ("standard",),
    "vgg11_bn": ("standard",),
    "vgg16_bn": ("standard",),
    "wrn_16_4": ("standard",),
    "wrn_28_10": ("standard",),
}


def complete_model(incomplete: str) -> list[str]:
    """Return the models whose names start with a text."""
    return [name for name in RECIPES if name.startswith(incomplete)]


def complete_recipe(ctx: Context, incomplete: str) -> list[str]:
    """Return the tags of a model's recipes that start with a text."""
    tags = RECIPES.get(_model(ctx), ())
    return [tag for tag in tags if tag.startswith(incomplete)]


def complete_weights(ctx: Context, incomplete: str) -> list[str]:
    """Return the tags of a model's packaged weights that start with a text."""
    folder = Path(cifarzoo.__file__).parent / "pretrained"
    files = sorted(folder.glob(f"{_model(ctx)}-*.safetensors"))
    tags = ["default", *(path.stem.partition("-")[2] for path in files)] if files else []
    return [tag for tag in tags if tag.startswith(incomplete)]


def _model(ctx: Context) -> str:
    """Return the model that was typed; an option without its value leaves it in `ctx.args`."""
    typed = (ctx.params.get("name"), *ctx.args)
    return next((each for each in typed if each in RECIPES), "")
