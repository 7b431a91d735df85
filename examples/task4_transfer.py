"""
Task 4a: transfer from ImageNet
===============================

A network that has learnt a million photographs of a thousand kinds already has most of what
CIFAR-10 needs. The report takes ResNet-18, replaces its last layer by one of ten outputs, freezes
all but the last stage and trains that with Adam: 88.72 % of the test images right, better than
anything that the report trained from nothing. Images are enlarged to what the network is used to,
and normalised with ImageNet's mean and standard deviation.

.. recorded::

This record was made with **EfficientNet-Lite0**, whose ImageNet weights come in a Python package
and need no download server; the report's figures beside it are ResNet-18's. Backbone, size of the
images, schedule and number of epochs differ from the report's, so the two say nothing about each
other. The mechanism is the same, and without ``--backbone`` the script does what the report did.

The frozen layers give the same answer in every epoch, so they run once:
:func:`~cifarzoo.train` splits the model, turns the loaders of images into loaders of features, and
fits the rest on those. Step by step that is :func:`~cifarzoo.split_frozen`,
:func:`~cifarzoo.feature_loaders`, :func:`~cifarzoo.fit`.

.. code-block:: sh

    python examples/task4_transfer.py                                # ResNet-18, downloaded
    python examples/task4_transfer.py --weights resnet18.pth         # ... or from a file
    python examples/task4_transfer.py --backbone efficientnet_lite0  # see efficientnet_lite0.py
"""

# sphinx_gallery_thumbnail_path = "recorded/task4_transfer/task4a_efficientnet_lite0_transfer.webp"
from argparse import ArgumentParser

import efficientnet_lite0
from _arguments import Arguments, turn, written

import cifarzoo as zoo

REPORT = {"train": 0.9754, "val": 0.8988, "test": 0.8872}
CARDS = {
    "resnet18": zoo.model_card("resnet18_transfer"),
    "efficientnet_lite0": efficientnet_lite0.CARD,
}


def options(parser: ArgumentParser) -> None:
    """Say which backbone, and where its weights are."""
    parser.add_argument("--backbone", choices=CARDS, default="resnet18")
    parser.add_argument("--weights", help="of ResNet-18: imagenet (default), or a file")


def transfer(args: Arguments) -> None:
    """Train, print the scores beside the report's, and draw the curves."""
    card = CARDS[args.own.backbone]
    runs = [args.run(card, seed, weights=args.own.weights) for seed in args.seeds]

    model, history = runs[0].model, runs[0].history
    trained, total = (zoo.count_params(model, which=which) for which in ("trainable", "all"))
    print(f"{card.name}: trained were {trained:,} of {total:,} parameters")
    print("(the report, with ResNet-18: 8,398,858 of 11,181,642)")
    print(f"{history.steps:,} steps in {history.seconds:,.0f} s, the frozen part not counted")

    print(f"\n4a  {'accuracy':<10} {'ours':>16} {'report':>8}")
    for split, reported in REPORT.items():
        scores = [getattr(run, split).accuracy for run in runs]
        print(f"    {split:<10} {written(scores, '.2%'):>16} {reported:>8.2%}")
    for run in runs:
        print(f"seed {run.seed}: {run.test}")
    picture = zoo.viz.plot_history(history, title=f"Task 4a: {card.name}")
    says = "Loss and accuracy of the network from ImageNet while it learns CIFAR-10."
    args.save(picture, f"task4a_{card.name}.png", says)


if __name__ == "__main__":
    turn(
        transfer,
        "Task 4a: transfer learning.",
        options=options,
        hint="Weights of ResNet-18 that lie on this disk are taken with --weights FILE.",
    )
