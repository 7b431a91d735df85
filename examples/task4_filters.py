"""
Task 4b, 4c: filters and activations
====================================

- **4b** Plot filters of the first convolution, each above its activation on an image. What does
  each of them respond to?
- **4c** Plot ten activation maps of the last convolution.

The report uses an image of a zebra and judges by eye: of ResNet-18's filters, number 14 responds to
vertical edges, 26 to horizontal and 49 to diagonal ones, 32 and 52 to colours. The image here is a
test pattern with a part for each of these: a zone plate, whose stripes run in all directions; a
ring of all hues; gratings down the right side; two-coloured discs along the bottom. How much a map
varies on each part is a number.

.. recorded::

The figures show EfficientNet-Lite0 with its ImageNet weights (see task 4a). From its 32 filters the
script picks the most selective one for each part of the pattern: of the filters whose map varies
there at least a tenth more than on any other part, the one for which the ratio is largest. The maps
of the filters for vertical and for horizontal stripes are pale where the zone plate's stripes run
the other way. With 3 × 3 pixels, filters can hardly tell the diagonals from the other directions.
One filter responds to colours alone. The maps of the last convolution are a few pixels wide:
nothing can be recognised in them, but they are what the classifier sees.

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
from _example import Options, run_example
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import cifarzoo as zoo

REPORT = {14: "vertical", 26: "horizontal", 32: "colour", 49: "diagonal", 52: "colour"}
STRIPES = ("vertical", "rising", "horizontal", "falling")  # the pattern's gratings, from the top
LAYERS = {  # first and last convolution
    "resnet18": ("conv1", "layer4.1.conv2"),
    "efficientnet_lite0": ("_conv_stem", "_conv_head"),
}
MARGIN = 1.1


def add_options(parser: ArgumentParser) -> None:
    """Add the choice of backbone, weights and image."""
    parser.add_argument("--backbone", choices=LAYERS, default="resnet18")
    parser.add_argument("--image", type=Path, help="use this image instead of the test pattern")
    parser.add_argument("--weights", help="for ResNet-18: imagenet (default), or a file")


def variation(model: zoo.ImageClassifier, layer: str) -> dict[str, Tensor]:
    """Return each map's standard deviation on the gratings and on the colours of the pattern."""
    image = zoo.viz.orientation_pattern(224)[None]
    with torch.no_grad():
        maps = model.get_submodule(f"network.{layer}")(model.preprocess(image))[0]
    # In 4 x 4 tiles: the gratings are in the last column, the coloured discs in the last row.
    tiles = maps.unflatten(2, (4, -1)).unflatten(1, (4, -1)).std((2, 4))
    parts = {name: tiles[:, row, 3] for row, name in enumerate(STRIPES)}
    return parts | {"colour": tiles[:, 3, :3].amax(1)}


def most_selective(parts: dict[str, Tensor]) -> dict[int, str]:
    """Return for each part the filter whose variation there exceeds that elsewhere most.

    A part is left out if no filter varies there `MARGIN` times as much as on any other part.
    """
    found = {}
    for name, here in parts.items():
        elsewhere = torch.stack([each for other, each in parts.items() if other != name]).amax(0)
        ratio = here / elsewhere.clamp(min=1e-2)  # some maps are constant
        if ratio.max() >= MARGIN:
            found[int(ratio.argmax())] = name
    return found


def figures(
    model: zoo.ImageClassifier, image: Tensor, indices: list[int], backbone: str, origin: str
) -> tuple[Figure, Figure]:
    """Plot 4b and 4c."""
    first, last = LAYERS[backbone]
    title = f"Task 4b: filters of the first convolution above their activations ({origin})"
    filters = zoo.viz.plot_filter_responses(model, image, first, indices, title=title)
    title = f"Task 4c: ten activation maps of the last convolution ({origin})"
    return filters, zoo.viz.plot_activations(model, image, last, range(10), title=title)


def filters(options: Options) -> None:
    """Print how each map of the first layer varies, and plot both layers."""
    backbone = options.own.backbone
    image = zoo.viz.orientation_pattern()
    if options.own.image:
        image = pil_to_tensor(Image.open(options.own.image).convert("RGB"))
    if backbone == "efficientnet_lite0":
        model: zoo.ImageClassifier = efficientnet_lite0.build().eval()
        origin = "ImageNet weights"
    else:
        weights = options.own.weights or (None if options.quick else "imagenet")
        torch.manual_seed(0)  # for random weights
        model = zoo.build_model("resnet18_transfer", weights=weights)
        origin = f"weights: {Path(weights).name}" if weights else "RANDOM weights"
    parts = variation(model, LAYERS[backbone][0])
    chosen = {index: f"the report: {said}" for index, said in REPORT.items()}
    if backbone == "efficientnet_lite0":
        chosen = most_selective(parts)

    print(f"First convolution ({origin}): how much each map varies on the test pattern")
    print("filter", *(f"{name:>10}" for name in parts), "  picked for")
    for index, reason in chosen.items():
        print(f"{index:>6}", *(f"{v[index].item():10.2f}" for v in parts.values()), f"  {reason}")

    first, last = figures(model, image, list(chosen), backbone, origin)
    options.save(first, "task4b_filters.png", "An image, and filters above their activations.")
    options.save(last, "task4c_activations.png", "An image, and ten maps of the last convolution.")


if __name__ == "__main__":
    run_example(
        filters,
        "Tasks 4b and 4c: filters and activations.",
        add_options=add_options,
        hint="Try --weights FILE (torchvision's resnet18), or --quick (random weights).",
    )
