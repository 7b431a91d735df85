"""Tasks 4b and 4c: what ResNet-18 looks for in an image, in its first layer and in its last.

    python examples/task4_filters.py --image zebra.jpg

Without --image it looks at a test pattern: a zone plate, gratings, a ring of hues. Its weights
were trained on ImageNet; --quick shows the way with random ones, and says so on the pictures.
"""

from argparse import ArgumentParser
from pathlib import Path

import torch
from _arguments import Arguments, turn
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import cifarzoo as zoo

REPORT = {14: "upright", 26: "flat", 32: "colour", 49: "diagonal", 52: "colour"}
STRIPES = ("upright", "rising", "flat", "falling")  # the pattern's gratings, from the top


def options(parser: ArgumentParser) -> None:
    """Say what is looked at, and with which weights."""
    parser.add_argument("--image", type=Path, help="look at this instead of the test pattern")
    parser.add_argument("--weights", help="'imagenet' (default), or a file of ResNet-18 weights")


def answers(model: zoo.ImageClassifier) -> dict[str, Tensor]:
    """Standard deviation of each first-layer map over the pattern's gratings, and its colours."""
    image = zoo.viz.orientation_pattern(224)[None]
    with torch.no_grad():
        maps = model.get_submodule("network.conv1")(model.preprocess(image))[0]
    # In 4 x 4 tiles: the gratings down the right side, the coloured discs along the bottom.
    tiles = maps.unflatten(2, (4, -1)).unflatten(1, (4, -1)).std((2, 4))
    spread = {name: tiles[:, row, 3] for row, name in enumerate(STRIPES)}
    return spread | {"colour": tiles[:, 3, :3].amax(1)}


def filters(args: Arguments) -> None:
    """Print what the first layer answers to and draw both layers."""
    image = zoo.viz.orientation_pattern()
    if args.own.image:
        image = pil_to_tensor(Image.open(args.own.image).convert("RGB"))
    weights = args.own.weights or (None if args.quick else "imagenet")
    torch.manual_seed(0)  # for random weights
    model = zoo.build_model("resnet18_transfer", weights=weights)
    origin = f"weights: {Path(weights).name}" if weights else "RANDOM weights, nothing learnt"

    print(f"First convolution ({origin}): how much each map varies on the test pattern")
    spread = answers(model)
    print("filter", *(f"{name:>8}" for name in spread), "  the report says")
    for index, said in REPORT.items():
        print(f"{index:>6}", *(f"{v[index].item():8.2f}" for v in spread.values()), f"  {said}")

    title = f"Task 4b: filters of the first convolution above their activations ({origin})"
    first = zoo.viz.plot_filter_responses(model, image, "conv1", list(REPORT), title=title)
    title = f"Task 4c: ten activation maps of the last convolutional stage ({origin})"
    last = zoo.viz.plot_activations(model, image, "layer4", range(10), title=title)
    args.save(first, "task4b_filters.png")
    args.save(last, "task4c_activations.png")


if __name__ == "__main__":
    turn(
        filters,
        "Tasks 4b and 4c: filters and activations.",
        options=options,
        hint="Try --weights FILE (torchvision's resnet18), or --quick (random weights).",
    )
