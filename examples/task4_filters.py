"""Tasks 4b and 4c: what ResNet-18 looks for in an image, in its first layer and in its last.

    python examples/task4_filters.py --image zebra.jpg

Without --image it looks at a test pattern: a zone plate, gratings, a ring of hues. Its weights
were trained on ImageNet; --quick shows the way with random ones, and says so on the pictures.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import cifarzoo as zoo

REPORT = {14: "upright", 26: "flat", 32: "colour", 49: "diagonal", 52: "colour"}
STRIPES = ("upright", "rising", "flat", "falling")  # the pattern's gratings, from the top


def answers(model: zoo.ImageClassifier) -> dict[str, Tensor]:
    """Standard deviation of each first-layer map over the pattern's gratings, and its colours."""
    image = zoo.viz.orientation_pattern(224)[None]
    with torch.no_grad():
        maps = model.get_submodule("network.conv1")(model.preprocess(image))[0]
    # In 4 x 4 tiles: the gratings down the right side, the coloured discs along the bottom.
    tiles = maps.unflatten(2, (4, -1)).unflatten(1, (4, -1)).std((2, 4))
    spread = {name: tiles[:, row, 3] for row, name in enumerate(STRIPES)}
    return spread | {"colour": tiles[:, 3, :3].amax(1)}


def explore(weights: str | None, image: Tensor, out: Path) -> None:
    """Print what the first layer answers to and draw both layers."""
    torch.manual_seed(0)  # for random weights
    model = zoo.build_model("resnet18_transfer", weights=weights)
    origin = (
        "RANDOM weights, nothing learnt" if weights is None else f"weights: {Path(weights).name}"
    )

    print(f"First convolution ({origin}): how much each map varies on the test pattern")
    spread = answers(model)
    print("filter", *(f"{name:>8}" for name in spread), "  the report says")
    for index, said in REPORT.items():
        print(f"{index:>6}", *(f"{v[index].item():8.2f}" for v in spread.values()), f"  {said}")

    out.mkdir(parents=True, exist_ok=True)
    title = f"Task 4b: filters of the first convolution above their activations ({origin})"
    first = zoo.viz.plot_filter_responses(model, image, "conv1", list(REPORT), title=title)
    title = f"Task 4c: ten activation maps of the last convolutional stage ({origin})"
    last = zoo.viz.plot_activations(model, image, "layer4", range(10), title=title)
    for name, figure in (("task4b_filters.png", first), ("task4c_activations.png", last)):
        figure.savefig(out / name, dpi=150)
        print(f"wrote {out / name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tasks 4b and 4c: filters and activations.")
    parser.add_argument("--data", type=Path, help="the data folder; taken, but not needed here")
    parser.add_argument("--quick", action="store_true", help="random weights, nothing to download")
    parser.add_argument("--image", type=Path, help="look at this instead of the test pattern")
    parser.add_argument("--weights", help="'imagenet' (default), or a file of ResNet-18 weights")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where pictures go")
    args = parser.parse_args()
    try:
        image = zoo.viz.orientation_pattern()
        if args.image:
            image = pil_to_tensor(Image.open(args.image).convert("RGB"))
        explore(args.weights or (None if args.quick else "imagenet"), image, args.out)
    except (zoo.CifarZooError, OSError) as error:
        sys.exit(
            f"{error}\nTry --weights FILE (torchvision's resnet18), or --quick (random weights)."
        )
