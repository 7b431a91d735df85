"""
Every picture, of networks that learnt CIFAR-10
===============================================

What this library can draw, drawn: two networks of the report are trained over two seeds, and every
function of :mod:`cifarzoo.viz` gets something to show. The pictures stand beside the functions in
:doc:`the reference </api/viz>`. Predictions are those for the validation images, so the test set
stays unseen.

.. recorded::

.. code-block:: sh

    python examples/pictures.py
"""

from collections.abc import Callable

from _arguments import Arguments, turn
from matplotlib.figure import Figure

import cifarzoo as zoo

NAMES = ("report_baseline", "report_model2")
STRONG = zoo.Augmentation(flip="alternating", translate=4, cutout=12)
OTHERS = [("resnet20", 272_474, 0.926), ("resnet56", 855_770, 0.9437)]  # as chenyaofo gives them


def point(runs: list[zoo.Run]) -> zoo.viz.ModelPoint:
    """Give a network its place in the picture of sizes."""
    found = zoo.mean_and_std([run.val.accuracy for run in runs if run.val])
    name, size = runs[0].card.name, zoo.count_params(runs[0].model)
    return zoo.viz.ModelPoint(name=name, size=size, accuracy=found.mean, std=found.std)


def drawings(
    runs: dict[str, list[zoo.Run]], val: zoo.TensorLoader
) -> dict[Callable[..., Figure], tuple[object, ...]]:
    """Give each function what it draws."""
    histories = {name: [run.history for run in each] for name, each in runs.items()}
    run = runs["report_model2"][0]
    model, names, images, labels = run.model, val.classes, val.images, val.labels
    likely, ship = zoo.predict(model, val).probabilities, images[labels == 8][0]
    points = [point(each) for each in runs.values()]
    for name, size, accuracy in OTHERS:
        theirs = zoo.viz.ModelPoint(name=name, size=size, accuracy=accuracy, source="chenyaofo")
        points.append(theirs)
    return {
        zoo.viz.plot_history: (run.history,),
        zoo.viz.plot_histories: (histories,),
        zoo.viz.plot_gap: (histories,),
        zoo.viz.plot_images: (images[:24], labels[:24], names),
        zoo.viz.plot_augmentation: (images[:4], STRONG),
        zoo.viz.plot_predictions: (images[:12], labels[:12], likely[:12], names),
        zoo.viz.plot_mistakes: (images, labels, likely, names),
        zoo.viz.plot_confusion: (run.val, names),
        zoo.viz.plot_per_class: (run.val, names),
        zoo.viz.plot_reliability: (likely, labels),
        zoo.viz.plot_filters: (model.get_submodule("network.block1.conv1"),),
        zoo.viz.plot_activations: (model, ship, "block1.conv2"),
        zoo.viz.plot_filter_responses: (model, ship, "block1.conv1"),
        zoo.viz.plot_receptive_field: (model, ship, "block2.conv2"),
        zoo.viz.plot_network: (model,),
        zoo.viz.plot_sizes: (points,),
        zoo.viz.plot_grad_cam: (model, images[:6], None, None, names),
        zoo.viz.plot_occlusion: (model, images[:6], None, names),
    }


def pictures(args: Arguments) -> None:
    """Train, and draw each picture for a light and for a dark page."""
    runs = {name: [args.run(zoo.model_card(name), seed) for seed in args.seeds] for name in NAMES}
    val = args.loaders().val or args.loaders().test
    for theme in ("light", "dark"):
        with zoo.viz.theme(theme):
            for draw, given in drawings(runs, val).items():
                says = (draw.__doc__ or "").partition("\n")[0]
                args.save(draw(*given), f"{draw.__name__}-{theme}.png", says)


if __name__ == "__main__":
    turn(pictures, "Every picture.", seeds="0,1")
