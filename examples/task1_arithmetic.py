"""Task 1: arithmetic by hand, and one measurement.

    python examples/task1_arithmetic.py
    python examples/task1_arithmetic.py --data shapes --quick     # random weights, and no data

1b asks which layer makes a network less sensitive to small shifts. Two crops of an image, a pixel
apart, go through the baseline: what is |f(shifted) - f(x)| / |f(x)| after a layer, in units of the
same before it? Pooling also halves the map, so two other ways to do that stand beside it.
"""

import sys
from dataclasses import replace

import torch
from _arguments import Arguments, parse
from matplotlib.figure import Figure
from torch import Tensor, nn

import cifarzoo as zoo

IMAGE = [[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
INSTEAD = {"(mean of 2 x 2)": nn.AvgPool2d(2), "(every 2nd pixel)": nn.AvgPool2d(1, 2)}


def by_hand() -> None:
    """Print the exact answers beside the report's."""
    print("1a  zeros around the image (the report prints -1 for the -11; by the arithmetic, -11)")
    print(zoo.convolve2d(IMAGE, SOBEL).numpy(), "    mirrored", sep="\n")
    print(zoo.convolve2d(IMAGE, SOBEL, boundary="reflect").numpy())
    pooled = zoo.conv_output_size((504, 504), 2, stride=2)
    rows = zoo.layer_table(zoo.build_model("report_baseline"))
    print(f"1c  padding {zoo.same_padding(5)} (report: 2)")
    print(f"1d  kernel {zoo.kernel_size_for((512, 512), (504, 504))} (report: 9 x 9)")
    print(f"1e  {pooled} (report: 252 x 252)    1f  {zoo.conv_output_size(pooled, 3)} (250 x 250)")
    print("1g ", " + ".join(f"{row.params:,}" for row in rows if row.params), end=" ")
    print(f"= {sum(row.params for row in rows):,} parameters (report: 390,410)")


def change(still: Tensor, moved: Tensor) -> float:
    """How far apart two batches of maps are, as a share of the first."""
    return ((moved - still).norm() / still.norm()).item()


@torch.no_grad()
def factors(model: zoo.ImageClassifier, images: Tensor) -> dict[str, list[float]]:
    """By what each kind of layer multiplies the change, in each of the three blocks."""
    found: dict[str, list[float]] = {}
    still, moved = (model.preprocess(images[..., 4:28, x : x + 24]) for x in (4, 5))
    for name, layer in model.network.named_modules():
        if name.startswith("block") and "." in name:
            others = INSTEAD if isinstance(layer, nn.MaxPool2d) else {}
            for kind, each in {type(layer).__name__: layer, **others}.items():
                after = change(each(still), each(moved))
                found.setdefault(kind, []).append(after / change(still, moved))
            still, moved = layer(still), layer(moved)
    return found


def by_measurement(args: Arguments) -> None:
    """Print and draw 1b: a network with random weights, and the same after an epoch."""
    data = zoo.shapes_loaders() if args.data == "shapes" else zoo.cifar10_loaders(root=args.root)
    torch.manual_seed(args.seeds[0])
    model, card = zoo.build_model("report_baseline").eval(), zoo.model_card("report_baseline")
    axes = (figure := Figure((8, 4))).add_subplot(title="Task 1b, a point for each block")
    for x, state in enumerate(["random weights", "after an epoch"][: 1 if args.quick else 2]):
        if x:
            zoo.fit(model, data, replace(card.recipe, epochs=1))
        print(f"1b  change after / before, three blocks, {state} (report: max pooling)")
        for kind, found in factors(model.cpu(), next(iter(data.val or ()))[0]).items():
            print(f"    {kind:<18}", *(f"{factor:.2f}" for factor in found))
            axes.plot([kind] * 3, found, "o", color=f"C{x}", label="_" * (kind != "ReLU") + state)
    axes.axhline(1, color="grey")
    axes.set_ylabel("change by a shift of one pixel, after / before")
    axes.legend()
    args.save(figure, "task1b.png")


if __name__ == "__main__":
    by_hand()
    try:
        by_measurement(parse("Task 1: arithmetic.", "0"))
    except (zoo.CifarZooError, OSError) as error:
        sys.exit(str(error))
