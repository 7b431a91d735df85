"""Score all weights that come with the package over the real test set.

    python benchmarks/weights.py [--models resnet20,sprint_m]

Prints what the card says, and what is found, in float32. Exits with 1 if an accuracy is further off
than 0.02 points.
"""

from __future__ import annotations

import argparse
import sys

import cifarzoo as zoo

TOLERANCE = 2e-4  # two images of 10,000


def main() -> None:
    """Score them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", help="comma-separated; without it all")
    names = parser.parse_args().models
    test = zoo.cifar10_loaders().test
    worst = 0.0
    asked = names.split(",") if names else zoo.list_models()
    without = [name for name in asked if not zoo.model_card(name).weights]
    if names and without:
        sys.exit(f"no weights of {', '.join(without)} come with the package")
    for name in asked:
        for weights in zoo.model_card(name).weights:
            model = zoo.build_model(name, weights=weights.tag)
            found = zoo.evaluate(model, test, precision="float32").accuracy
            off = abs(found - weights.accuracy)
            worst = max(worst, off)
            print(
                f"{name} {weights.tag}: {weights.accuracy:.2%} said, {found:.2%} found",
                flush=True,
            )
    if worst > TOLERANCE + 1e-9:
        sys.exit(f"an accuracy is off by {100 * worst:.2f} points")


if __name__ == "__main__":
    main()
