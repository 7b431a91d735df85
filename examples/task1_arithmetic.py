"""
Task 1: convolution by hand
===========================

Before any network is trained, the assignment asks for arithmetic on paper.

- **1a** Convolve a 3 × 5 image with a Sobel kernel, zeros around it. A true convolution flips the
  kernel first. The report prints −1 where the arithmetic gives −11.
- **1b** Which layer makes a network less sensitive to small shifts: convolution, activation or max
  pooling?
- **1c** What padding keeps the size, with a 5 × 5 kernel and stride 1?
- **1d** 512 × 512 pixels become 504 × 504 without padding. How large is the kernel?
- **1e, 1f** How large are the maps after 2 × 2 subsampling, and after a 3 × 3 convolution then?
- **1g** How many parameters has the baseline of task 2?

.. recorded::

Six of them have one exact answer. 1b deserves a measurement: two crops of an image, a pixel apart,
go through the baseline, and the length of the difference between their maps, as a share of the
length of the maps, is taken before a layer and after it. Where the quotient of the two is below 1,
the layer makes the network less sensitive.

Max pooling removes about a fifth of the change at every depth, trained or not, so the report's
answer holds. Convolutions and ReLUs go both ways. The two rows in brackets tell why: taking every
second pixel, which halves the map just as well, removes nothing; a mean removes more than a
maximum. It is the summary over a neighbourhood that helps, not the smaller map.

.. code-block:: sh

    python examples/task1_arithmetic.py
    python examples/task1_arithmetic.py --quick    # 1b with random weights only
"""

# sphinx_gallery_thumbnail_path = "recorded/task1_arithmetic/task1b.webp"
import torch
from _arguments import Arguments, turn
from matplotlib.figure import Figure
from torch import Tensor, nn

import cifarzoo as zoo

IMAGE = [[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
INSTEAD = {"(mean of 2 x 2)": nn.AvgPool2d(2), "(every 2nd pixel)": nn.AvgPool2d(1, 2)}


def by_hand() -> None:
    """Print the exact answers beside the report's."""
    print("1a  zeros around the image (the report prints -1 for the -11; by the arithmetic, -11)")
    reflected = zoo.convolve2d(IMAGE, SOBEL, boundary="reflect")
    print(zoo.convolve2d(IMAGE, SOBEL).numpy(), "    mirrored", reflected.numpy(), sep="\n")
    print(f"1c  padding {zoo.same_padding(5)} (report: 2)")
    print(f"1d  kernel {zoo.kernel_size_for((512, 512), (504, 504))} (report: 9 x 9)")
    pooled = zoo.conv_output_size((504, 504), 2, stride=2)
    print(f"1e  {pooled} (report: 252 x 252)    1f  {zoo.conv_output_size(pooled, 3)} (250 x 250)")
    params = [row.params for row in zoo.layer_table(zoo.build_model("report_baseline"))]
    print("1g ", " + ".join(f"{n:,}" for n in params if n), f"= {sum(params):,} (report: 390,410)")


def change(still: Tensor, moved: Tensor) -> float:
    """How far apart two batches of maps are, as a share of the first."""
    return float((moved - still).norm() / still.norm())


@torch.no_grad()
def factors(model: zoo.ImageClassifier, images: Tensor) -> dict[str, list[float]]:
    """By what each kind of layer multiplies the change, in each of the three blocks."""
    found: dict[str, list[float]] = {}
    a, b = (model.preprocess(images[..., 4:28, left : left + 24]) for left in (4, 5))
    for name, layer in model.network.named_modules():
        if name.startswith("block") and "." in name:
            others = INSTEAD if isinstance(layer, nn.MaxPool2d) else {}
            for kind, each in {type(layer).__name__: layer, **others}.items():
                found.setdefault(kind, []).append(change(each(a), each(b)) / change(a, b))
            a, b = layer(a), layer(b)
    return found


def arithmetic(args: Arguments) -> None:
    """Print the answers; print and draw 1b for random weights, and after an epoch of training."""
    by_hand()
    data = args.loaders()
    torch.manual_seed(args.seeds[0])
    model, figure = zoo.build_model("report_baseline").eval(), Figure((8, 4), layout="tight")
    for state, style in (("random weights", "oC0"), ("after an epoch", "sC1"))[: 2 - args.quick]:
        if state == "after an epoch":
            zoo.fit(model, data, zoo.Recipe(epochs=1), seed=args.seeds[0])
        print(f"1b  change after / before a layer, in three blocks, {state} (report: MaxPool2d)")
        found = factors(model.cpu(), next(iter(data.val or ()))[0])
        for kind, values in found.items():
            print(f"    {kind:<18}", *(f"{value:.2f}" for value in values))
        figure.gca().plot(
            list(found), list(found.values()), style, alpha=0.7, label=[state, "_", "_"]
        )
    axes = figure.gca()
    axes.axhline(1, color="grey", zorder=0)
    axes.set(title="Task 1b: what a layer does to the change that a shift by a pixel makes")
    axes.set(ylabel="change after the layer / before it", xlim=(-0.6, 4.6))
    axes.legend(title="in each of three blocks")
    says = (
        "How much the change by a shift grows or shrinks in each kind of layer, three blocks each."
    )
    args.save(figure, "task1b.png", says)


if __name__ == "__main__":
    turn(arithmetic, "Task 1: arithmetic.")
