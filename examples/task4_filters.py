"""
Task 4b, 4c: filters and activations
====================================

- **4b** Draw filters of the first convolution, each above its activation on an image. What does
  each of them look for?
- **4c** Draw ten activation maps of the last convolution.

The report looks at a zebra and judges by eye: of ResNet-18's filters, number 14 answers to vertical
edges, 26 to horizontal, 49 to diagonal ones, 32 and 52 to colours. Here the image is a test pattern
that has an answer for each of these: a zone plate, whose stripes run in all directions; a ring of
all hues; gratings down the right side; two-coloured discs along the bottom. How much a map varies
on each part is a number.

.. recorded::

The record shows EfficientNet-Lite0 with its ImageNet weights (see task 4a), and of its 32 filters
the most selective one for each part of the pattern: of those whose map varies more there than on
any other part, the one with the largest share of its variation there. Filters for vertical and for
horizontal stripes answer little a quarter turn further, where the zone plate stays pale. With 3 × 3
pixels the two diagonals are hardly told apart from the rest. One filter answers to colours alone.
The maps of the last stage are a few pixels wide: nothing can be recognised in them, but what is
left is what the classifier decides by.

.. code-block:: sh

    python examples/task4_filters.py --image zebra.jpg   # ResNet-18, the report's filters
    python examples/task4_filters.py --quick             # ... with random weights
    python examples/task4_filters.py --backbone efficientnet_lite0
"""

# sphinx_gallery_thumbnail_path = "recorded/task4_filters/task4b_filters.webp"
from argparse import ArgumentParser
from pathlib import Path

import efficientnet_lite0
import torch
from _arguments import Arguments, turn
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import cifarzoo as zoo

REPORT = {14: "vertical", 26: "horizontal", 32: "colour", 49: "diagonal", 52: "colour"}
STRIPES = ("vertical", "rising", "horizontal", "falling")  # the pattern's gratings, from the top


BACKBONES = {  # the names of the first convolution and of the last maps
    "resnet18": ("conv1", "layer4"),
    "efficientnet_lite0": ("_conv_stem", "_blocks.15"),
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


def selective(spread: dict[str, Tensor]) -> dict[int, str]:
    """Give for each part the filter with the largest share of its variation there.

    Only filters whose map varies more on this part than on any other are looked at.
    """
    every = torch.stack(list(spread.values()))  # (parts, filters)
    strongest = every.argmax(0) == torch.arange(len(every))[:, None]
    share = torch.where(strongest, every / every.sum(0).clamp(min=1e-6), 0)
    return {int(row.argmax()): name for name, row in zip(spread, share, strict=True) if row.any()}


def filters(args: Arguments) -> None:
    """Print what the first layer answers to and draw both layers."""
    image = zoo.viz.orientation_pattern()
    if args.own.image:
        image = pil_to_tensor(Image.open(args.own.image).convert("RGB"))
    model, origin = build(args)
    first_layer, last_layer = BACKBONES[args.own.backbone]
    spread = answers(model, first_layer)
    if args.own.backbone == "resnet18":
        chosen = {index: f"the report: {said}" for index, said in REPORT.items()}
    else:
        chosen = selective(spread)

    print(f"First convolution ({origin}): how much each map varies on the test pattern")
    print("filter", *(f"{name:>10}" for name in spread), "  picked for")
    for index, reason in chosen.items():
        print(f"{index:>6}", *(f"{v[index].item():10.2f}" for v in spread.values()), f"  {reason}")

    title = f"Task 4b: filters of the first convolution above their activations ({origin})"
    first = zoo.viz.plot_filter_responses(model, image, first_layer, list(chosen), title=title)
    title = f"Task 4c: ten activation maps of the last stage ({origin})"
    last = zoo.viz.plot_activations(model, image, last_layer, range(10), title=title)
    args.save(first, "task4b_filters.png", "An image, and filters above the maps they make of it.")
    args.save(last, "task4c_activations.png", "An image, and ten maps of the last stage.")


if __name__ == "__main__":
    turn(
        filters,
        "Tasks 4b and 4c: filters and activations.",
        options=options,
        hint="Try --weights FILE (torchvision's resnet18), or --quick (random weights).",
    )
