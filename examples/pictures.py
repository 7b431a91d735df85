"""
All figures, for networks trained on CIFAR-10
=============================================

Every function of :mod:`cifarzoo.viz`, applied to two networks of the report with the weights and
the training histories that come with the package. The figures also appear next to the functions in
:doc:`the reference </api/viz>`. Predictions are for validation images, which the networks were not
trained on; the accuracies in the figure of sizes are test accuracies.

.. recorded::

.. code-block:: sh

    python examples/pictures.py
"""

# sphinx_gallery_thumbnail_path = "recorded/pictures/plot_mistakes-light.webp"
from collections.abc import Callable

from _example import Options, run_example
from matplotlib.figure import Figure

import cifarzoo as zoo

NAMES = ("report_baseline", "report_model2")
STRONG = zoo.Augmentation(flip="alternating", translate=4, cutout=12)


def drawings(
    weights: dict[str, zoo.Weights], val: zoo.TensorLoader
) -> list[tuple[Callable[..., Figure], tuple[object, ...], str]]:
    """Return each function with its arguments and a description of the figure."""
    viz, images, labels, names = zoo.viz, val.images, val.labels, val.classes
    model = zoo.build_model("report_model2", weights="standard")
    probabilities, score = zoo.predict(model, val).probabilities, zoo.evaluate(model, val)
    dozen = (images[:12], labels[:12], probabilities[:12], names)
    everything = (images, labels, probabilities, names)
    few, ship = images[:6], images[labels == 8][0]
    conv = model.get_submodule("network.block1.conv1")
    histories = {name: [run.history for run in each.runs] for name, each in weights.items()}
    points = [
        viz.ModelPoint(name=name, size=each.run.params, accuracy=each.mean, std=each.std)
        for name, each in weights.items()
    ]
    history = weights["report_model2"].run.history
    return [
        (viz.plot_history, (history,), "Loss and accuracy of one run by step."),
        (viz.plot_histories, (histories,), "Loss and accuracy of two networks, three runs each."),
        (viz.plot_gap, (histories,), "Validation loss minus training loss: both overfit."),
        (viz.plot_images, (images[:24], labels[:24], names), "24 images with their classes."),
        (viz.plot_augmentation, (images[:4], STRONG), "Four images as seven epochs show them."),
        (viz.plot_predictions, dozen, "Twelve images above their three most likely classes."),
        (viz.plot_mistakes, everything, "The wrong predictions with the highest confidence."),
        (viz.plot_confusion, (score, names), "Counts of each true class by predicted class."),
        (viz.plot_per_class, (score, names), "A bar for the accuracy of each class."),
        (viz.plot_reliability, (labels, probabilities), "Accuracy against confidence."),
        (viz.plot_filters, (conv,), "The 32 filters of the first convolution in colour."),
        (viz.plot_activations, (model, ship, "block1.conv2"), "A ship and ten activation maps."),
        (viz.plot_filter_responses, (model, ship, "block1.conv1"), "Filters and their maps."),
        (viz.plot_receptive_field, (model, ship, "block2.conv2"), "The pixels that count, framed."),
        (viz.plot_network, (model,), "A network as a row of blocks with shapes and parameters."),
        (viz.plot_sizes, (points,), "Accuracy against parameters."),
        (viz.plot_grad_cam, (model, few, None, names), "What supports each prediction."),
        (viz.plot_occlusion, (model, few, None, names), "What each prediction depends on."),
    ]


def pictures(options: Options) -> None:
    """Draw each figure for a light and for a dark page."""
    cards = {name: zoo.model_card(name) for name in NAMES}
    weights = {name: each for name, card in cards.items() if (each := card.weights_for("standard"))}
    val = options.loaders().val  # the same images for every seed
    assert isinstance(val, zoo.TensorLoader)
    drawn = drawings(weights, val)
    themes: tuple[zoo.viz.ThemeName, ...] = ("light", "dark")
    for theme in themes[: 2 - options.quick]:
        with zoo.viz.theme(theme):
            for draw, arguments, description in drawn:
                options.save(draw(*arguments), f"{draw.__name__}-{theme}.png", description)


if __name__ == "__main__":
    run_example(pictures, "All figures.")
