"""Score all weights in the package on the CIFAR-10 test set.

    python tools/check_weights.py [NAME ...]

The exit code is 1 if an accuracy differs from its card by more than 0.02 points.
"""

from __future__ import annotations

import argparse
import sys

import cifarzoo as zoo

TOLERANCE = 2e-4  # two of 10,000 images


def main(arguments: list[str] | None = None) -> None:
    """Score the weights of the models on the command line, or of all models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args(arguments).names or zoo.list_models()
    test = zoo.cifar10_loaders().test
    wrong = []
    for name in names:
        for weights in zoo.model_card(name).weights:
            found = zoo.evaluate(zoo.build_model(name, weights=weights.tag), test).accuracy
            line = f"{name} {weights.tag}: expected {weights.accuracy:.2%}, got {found:.2%}"
            print(line, flush=True)
            if abs(found - weights.accuracy) > TOLERANCE + 1e-9:
                wrong.append(line)
    if wrong:
        sys.exit("\n".join(["accuracies that differ from the card:", *wrong]))


if __name__ == "__main__":
    main()
