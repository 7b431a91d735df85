"""
Every picture, of networks that learnt CIFAR-10
===============================================

What this library can draw, drawn: two networks of the report are trained over two seeds, and every
function of :mod:`cifarzoo.viz` gets something to show. The pictures stand beside the functions in
:doc:`the reference </api/viz>`. Predictions are those for the validation images; only the
accuracies in the picture of sizes are those of the test set.

.. recorded::

.. code-block:: sh

    python examples/pictures.py
"""

# sphinx_gallery_thumbnail_path = "recorded/pictures/plot_mistakes-light.webp"
from collections.abc import Callable

from _arguments import Arguments, turn
from matplotlib.figure import Figure

import cifarzoo as zoo

NAMES = ("report_baseline", "report_model2")
STRONG = zoo.Augmentation(flip="alternating", translate=4, cutout=12)


def point(runs: list[zoo.Run]) -> zoo.viz.ModelPoint:
    """Give a network its place in the picture of sizes."""
    found = zoo.mean_and_std([run.test.accuracy for run in runs if run.test])
    name, size = runs[0].card.name, zoo.count_params(runs[0].model)
    return zoo.viz.ModelPoint(name=name, size=size, accuracy=found.mean, std=found.std)


def drawings(
    runs: dict[str, list[zoo.Run]], val: zoo.TensorLoader
) -> list[tuple[Callable[..., Figure], tuple[object, ...], str]]:
    """Give each function what it draws, and say what is to be seen."""
    histories = {name: [run.history for run in each] for name, each in runs.items()}
    run, viz = runs["report_model2"][0], zoo.viz
    model, names, images, labels = run.model, val.classes, val.images, val.labels
    likely, ship = zoo.predict(model, val).probabilities, images[labels == 8][0]
    few, conv = images[:6], model.get_submodule("network.block1.conv1")
    return [
        (viz.plot_history, (run.history,), "Loss and accuracy of one run by step."),
        (viz.plot_histories, (histories,), "Loss and accuracy of two networks, two runs each."),
        (viz.plot_gap, (histories,), "Validation loss less training loss: both networks overfit."),
        (viz.plot_images, (images[:24], labels[:24], names), "24 images with their classes."),
        (viz.plot_augmentation, (images[:4], STRONG), "Four images as seven epochs show them."),
        (
            viz.plot_predictions,
            (images[:12], labels[:12], likely[:12], names),
            "Twelve images, each above its three likeliest classes.",
        ),
        (
            viz.plot_mistakes,
            (images, labels, likely, names),
            "Images that are taken for another class with the most confidence.",
        ),
        (viz.plot_confusion, (run.val, names), "Counts of each true class by predicted class."),
        (viz.plot_per_class, (run.val, names), "A bar for the accuracy of each class."),
        (
            viz.plot_reliability,
            (likely, labels),
            "Accuracy against confidence, below the diagonal.",
        ),
        (viz.plot_filters, (conv,), "The 32 filters of the first convolution in colour."),
        (viz.plot_activations, (model, ship, "block1.conv2"), "A ship and ten maps made of it."),
        (
            viz.plot_filter_responses,
            (model, ship, "block1.conv1"),
            "A ship, and five filters above the maps they make of it.",
        ),
        (
            viz.plot_receptive_field,
            (model, ship, "block2.conv2"),
            "A frame of 14 by 14 pixels on a ship, and how much each pixel counts.",
        ),
        (viz.plot_network, (model,), "A network as a row of blocks with shapes and parameters."),
        (
            viz.plot_sizes,
            ([point(each) for each in runs.values()],),
            "Accuracy against parameters.",
        ),
        (
            viz.plot_grad_cam,
            (model, few, None, None, names),
            "Six images, and what speaks for each.",
        ),
        (viz.plot_occlusion, (model, few, None, names), "Six images, and what each cannot lack."),
    ]


def pictures(args: Arguments) -> None:
    """Train, and draw each picture for a light and for a dark page."""
    runs = {name: [args.run(zoo.model_card(name), seed) for seed in args.seeds] for name in NAMES}
    val = args.loaders().val
    assert val is not None
    for theme in ("light", "dark"):
        with zoo.viz.theme(theme):
            for draw, given, says in drawings(runs, val):
                args.save(draw(*given), f"{draw.__name__}-{theme}.png", says)


if __name__ == "__main__":
    turn(pictures, "Every picture.", seeds="0,1")
