"""
Task 4a: transfer from ImageNet
===============================

A network that was trained on a million photographs of a thousand classes already knows most of what
CIFAR-10 needs. The report takes ResNet-18, replaces its last layer by one with ten outputs, freezes
everything but the last stage, and trains that with Adam. It reaches 88.72 % test accuracy, more
than any network that the report trains from scratch. The images are resized to the size that the
network was trained with, and normalised with ImageNet's mean and standard deviation.

.. recorded::

These runs use **EfficientNet-Lite0**, whose ImageNet weights come in a Python package and need no
download server; the report's figures next to them are for ResNet-18. Backbone, image size, schedule
and number of epochs differ from the report's, so the two cannot be compared. The mechanism is the
same, and without ``--backbone`` the script does what the report did.

The frozen layers give the same output in every epoch, so they run once: :func:`~cifarzoo.train`
splits the model with its ``split`` method, turns the loaders of images into loaders of features
(``cifarzoo.data.features.feature_loaders``), and trains the rest on those.

.. code-block:: sh

    python examples/task4_transfer.py                                # ResNet-18, downloaded
    python examples/task4_transfer.py --weights resnet18.pth         # ... or from a file
    python examples/task4_transfer.py --backbone efficientnet_lite0  # see efficientnet_lite0.py
"""

# sphinx_gallery_thumbnail_path = "recorded/task4_transfer/task4a_efficientnet_lite0_transfer.webp"
from argparse import ArgumentParser
from dataclasses import replace

from _example import Options, print_accuracies, print_origin, run_example
from experiments import EXPERIMENTS

import cifarzoo as zoo


def add_options(parser: ArgumentParser) -> None:
    """Add the choice of the backbone and of its weights."""
    parser.add_argument(
        "--backbone", choices=["resnet18", "efficientnet_lite0"], default="resnet18"
    )
    parser.add_argument("--weights", help="for ResNet-18: imagenet (default), or a file")


def transfer(options: Options) -> None:
    """Train, print the scores next to the report's, and plot the curves."""
    report = EXPERIMENTS["resnet18_transfer"].reported
    experiment = replace(EXPERIMENTS[f"{options.own.backbone}_transfer"], reported=report)
    runs = options.runs(experiment, weights=options.own.weights)

    first = runs[0]
    print(f"{experiment.title}: {first.trainable_params:,} of {first.params:,} parameters trained")
    print("(the report, with ResNet-18: 8,398,858 of 11,181,642)")
    print(
        f"{first.history.steps:,} steps in {first.history.seconds:,.0f} s (without frozen layers)"
    )
    print()
    print_accuracies("4a", experiment, runs)
    for run in runs:
        print(f"seed {run.seed}: {run.test}")
    print_origin(runs)
    figure = zoo.viz.plot_history(first.history, title=f"Task 4a: {experiment.title}")
    description = "Loss and accuracy of the network from ImageNet while it is trained on CIFAR-10."
    options.save(figure, f"task4a_{experiment.key}.png", description)


if __name__ == "__main__":
    run_example(
        transfer,
        "Task 4a: transfer learning.",
        add_options=add_options,
        hint="To use weights of ResNet-18 on this disk, pass --weights FILE.",
    )
