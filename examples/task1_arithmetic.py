"""
Task 1: convolution by hand
===========================

Before any network is trained, the assignment asks for arithmetic on paper.

- **1a** Convolve a 3 × 5 image with a Sobel kernel, with zeros around the image. A true convolution
  flips the kernel first. The report prints −1 where the correct value is −11.
- **1b** Which layer makes a network less sensitive to small shifts: convolution, activation or max
  pooling?
- **1c** Which padding keeps the size, with a 5 × 5 kernel and stride 1?
- **1d** 512 × 512 pixels become 504 × 504 without padding. How large is the kernel?
- **1e, 1f** How large are the maps after 2 × 2 subsampling, and then after a 3 × 3 convolution?
- **1g** How many parameters does the baseline of task 2 have?

.. recorded::

Six of the questions have one exact answer. 1b deserves a measurement. Two crops of an image,
shifted by one pixel, go through the baseline. The relative change is the norm of the difference
between their maps, divided by the norm of the maps; it is measured before and after each layer. If
the ratio of the two is below 1, the layer makes the network less sensitive.

Max pooling removes about a fifth of the change at every depth, trained or not, so the report's
answer holds. Convolutions and ReLUs go either way. The two rows in brackets show why: keeping every
second pixel, which halves the map as well, removes nothing; a mean removes more than a maximum.
What helps is the summary over a neighbourhood, not the smaller map.

.. code-block:: sh

    python examples/task1_arithmetic.py
    python examples/task1_arithmetic.py --quick    # 1b with random weights only
"""

# sphinx_gallery_thumbnail_path = "recorded/task1_arithmetic/task1b.webp"
import torch
from _example import Options, run_example
from matplotlib.figure import Figure
from torch import Tensor, nn

import cifarzoo as zoo
from cifarzoo.arithmetic import conv_output_size, convolve2d, kernel_size_for, same_padding

IMAGE = [[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
ALTERNATIVES = {"(mean of 2 x 2)": nn.AvgPool2d(2), "(every 2nd pixel)": nn.AvgPool2d(1, 2)}
REPORTED = {  # None: the report does not say
    "1a zeros": [[-2, 1, -1, 2, 13], [-10, 4, -8, -2, 18], [-14, 1, 5, -6, 9]],
    "1a mirrored": None,
    "1c": "2",
    "1d": "9×9",
    "1e": "252×252",
    "1f": "250×250",
    "1g": "2,432 + 51,264 + 204,928 + 131,136 + 650 = 390,410",
}


def answers() -> dict[str, object]:
    """Compute the exact answers: text, or a matrix as a list of rows."""

    def size(sides: tuple[int, ...]) -> str:
        return "×".join(map(str, sides))

    pooled = conv_output_size((504, 504), 2, stride=2)
    params = [row.params for row in zoo.layer_table(zoo.build_model("report_baseline"))]
    return {
        "1a zeros": convolve2d(IMAGE, SOBEL).int().tolist(),
        "1a mirrored": convolve2d(IMAGE, SOBEL, boundary="reflect").int().tolist(),
        "1c": str(same_padding(5)),
        "1d": size(kernel_size_for((512, 512), (504, 504))),
        "1e": size(pooled),
        "1f": size(conv_output_size(pooled, 3)),
        "1g": " + ".join(f"{n:,}" for n in params if n) + f" = {sum(params):,}",
    }


def relative_change(still: Tensor, moved: Tensor) -> float:
    """Return the norm of the difference over the norm of the first."""
    return float((moved - still).norm() / still.norm())


@torch.no_grad()
def shift_ratios(model: zoo.ImageClassifier, images: Tensor) -> dict[str, list[float]]:
    """Return the relative change after each kind of layer over that before it, for each block."""
    ratios: dict[str, list[float]] = {}
    still, moved = (model.preprocess(images[..., 4:28, left : left + 24]) for left in (4, 5))
    for name, layer in model.network.named_modules():
        if name.startswith("block") and "." in name:
            others = ALTERNATIVES if isinstance(layer, nn.MaxPool2d) else {}
            before = relative_change(still, moved)
            for kind, each in {type(layer).__name__: layer, **others}.items():
                after = relative_change(each(still), each(moved))
                ratios.setdefault(kind, []).append(after / before)
            still, moved = layer(still), layer(moved)
    return ratios


def arithmetic(options: Options) -> None:
    """Print the answers; print and plot 1b with random weights and after one epoch of training."""
    for part, answer in answers().items():
        verdict = "" if REPORTED[part] is None else " (as in the report)"
        if not isinstance(answer, list):
            print(f"{part}  {answer}{verdict}")
            continue
        if REPORTED[part] not in (None, answer):
            verdict = " (the report prints -1 instead of -11)"
        print(f"{part}{verdict}", *(" ".join(f"{n:>4}" for n in row) for row in answer), sep="\n  ")
    loaders = options.loaders()
    torch.manual_seed(options.seeds[0])
    model, figure = zoo.build_model("report_baseline"), Figure((8, 4), layout="tight")
    axes = figure.gca()
    for state, style in (("random weights", "oC0"), ("after one epoch", "sC1"))[
        : 2 - options.quick
    ]:
        if state == "after one epoch":
            zoo.fit(model, loaders, zoo.Recipe(epochs=1), seed=options.seeds[0])
        print(f"1b  change after / before a layer, in three blocks, {state} (report: MaxPool2d)")
        ratios = shift_ratios(model.cpu().eval(), next(iter(loaders.val or ()))[0])
        for kind, values in ratios.items():
            print(f"    {kind:<18}", *(f"{value:.2f}" for value in values))
        label = [state, "_", "_"]
        axes.plot(list(ratios), list(ratios.values()), style, alpha=0.7, label=label)
    axes.axhline(1, color="grey", zorder=0)
    axes.set(title="Task 1b: effect of each layer on the change caused by a shift of one pixel")
    axes.set(ylabel="change after the layer / before it", xlim=(-0.6, 4.6))
    axes.legend(title="in each of three blocks")
    description = "Ratio of the change after and before each kind of layer, in three blocks."
    options.save(figure, "task1b.png", description)


if __name__ == "__main__":
    run_example(arithmetic, "Task 1: arithmetic.")
