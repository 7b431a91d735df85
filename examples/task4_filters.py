"""
Task 4b, 4c: filters and activations
====================================

- **4b** Draw filters of the first convolution, each above its activation on an image. What does
  each of them look for?
- **4c** Draw ten activation maps of the last convolution.

The report looks at a zebra and judges by eye: of ResNet-18's 64 filters, 14 answers to vertical
edges, 26 to horizontal, 49 to diagonal ones, 32 and 52 to colours. Here the image is a test pattern
that has an answer for each of these: a zone plate, whose stripes run in all directions; a ring of
all hues; gratings down the right side; two-coloured discs along the bottom. How much a map varies
on each part is a number.

.. recorded::

The record shows EfficientNet-Lite0 with its ImageNet weights (see task 4a), and of its 32 filters
the ones that are keenest on each part of the pattern. A filter for upright stripes lights up where
the zone plate's stripes stand upright, and is blind a quarter turn further. The maps of the last
stage are a few pixels wide: nothing can be recognised in them, but what is left is what the
classifier decides by.

.. code-block:: sh

    python examples/task4_filters.py --image zebra.jpg               # ResNet-18, the report's filters
    python examples/task4_filters.py --quick                         # ... with random weights
    python examples/task4_filters.py --backbone efficientnet_lite0
"""

from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import efficientnet_lite0
import torch
from _arguments import Arguments, turn
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import cifarzoo as zoo

REPORT = {14: "upright", 26: "flat", 32: "colour", 49: "diagonal", 52: "colour"}
STRIPES = ("upright", "rising", "flat", "falling")  # the pattern's gratings, from the top


@dataclass(frozen=True)
class Looked:
    """Where to look in a backbone: its first convolution, its last maps, and some filters."""

    first: str
    last: str
    filters: Mapping[int, str]  # and why; none: the keenest on each part of the pattern


BACKBONES = {
    "resnet18": Looked("conv1", "layer4", REPORT),
    "efficientnet_lite0": Looked("_conv_stem", "_blocks.15", {}),
}


def options(parser: ArgumentParser) -> None:
    """Say what is looked at, and with which weights."""
    parser.add_argument("--backbone", choices=BACKBONES, default="resnet18")
    parser.add_argument("--image", type=Path, help="look at this instead of the test pattern")
    parser.add_argument("--weights", help="of ResNet-18: 'imagenet' (default), or a file")


def build(args: Arguments) -> tuple[zoo.ImageClassifier, str]:
    """Give the network, and say where its weights are from."""
    if args.own.backbone == "efficientnet_lite0":
        return efficientnet_lite0.build().eval(), "weights: ImageNet's"
    weights = args.own.weights or (None if args.quick else "imagenet")
    torch.manual_seed(0)  # for random weights
    model = zoo.build_model("resnet18_transfer", weights=weights)
    return model, f"weights: {Path(weights).name}" if weights else "RANDOM weights, nothing learnt"


def answers(model: zoo.ImageClassifier, layer: str) -> dict[str, Tensor]:
    """Standard deviation of each first-layer map over the pattern's gratings, and its colours."""
    image = zoo.viz.orientation_pattern(224)[None]
    with torch.no_grad():
        maps = model.get_submodule(f"network.{layer}")(model.preprocess(image))[0]
    # In 4 x 4 tiles: the gratings down the right side, the coloured discs along the bottom.
    tiles = maps.unflatten(2, (4, -1)).unflatten(1, (4, -1)).std((2, 4))
    spread = {name: tiles[:, row, 3] for row, name in enumerate(STRIPES)}
    return spread | {"colour": tiles[:, 3, :3].amax(1)}


def filters(args: Arguments) -> None:
    """Print what the first layer answers to and draw both layers."""
    image = zoo.viz.orientation_pattern()
    if args.own.image:
        image = pil_to_tensor(Image.open(args.own.image).convert("RGB"))
    model, origin = build(args)
    looked = BACKBONES[args.own.backbone]
    spread = answers(model, looked.first)
    reasons = {index: f"the report: {said}" for index, said in looked.filters.items()}
    whole = torch.stack(list(spread.values())).sum(0)
    keenest = {int((v / whole).argmax()): f"keenest on {name}" for name, v in spread.items()}
    chosen = reasons or keenest

    print(f"First convolution ({origin}): how much each map varies on the test pattern")
    print("filter", *(f"{name:>8}" for name in spread))
    for index, reason in chosen.items():
        print(f"{index:>6}", *(f"{v[index].item():8.2f}" for v in spread.values()), f"  {reason}")

    title = f"Task 4b: filters of the first convolution above their activations ({origin})"
    first = zoo.viz.plot_filter_responses(model, image, looked.first, list(chosen), title=title)
    title = f"Task 4c: ten activation maps of the last stage ({origin})"
    last = zoo.viz.plot_activations(model, image, looked.last, range(10), title=title)
    args.save(first, "task4b_filters.png", "An image, and filters above the maps they make of it.")
    args.save(last, "task4c_activations.png", "An image, and ten maps of the last stage.")


if __name__ == "__main__":
    turn(
        filters,
        "Tasks 4b and 4c: filters and activations.",
        options=options,
        hint="Try --weights FILE (torchvision's resnet18), or --quick (random weights).",
    )
