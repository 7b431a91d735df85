"""Task 4a: a network that was trained on ImageNet learns CIFAR-10.

    python examples/task4_transfer.py                                # ResNet-18, downloaded
    python examples/task4_transfer.py --weights resnet18.pth         # ... or from a file
    python examples/task4_transfer.py --backbone efficientnet_lite0  # see efficientnet_lite0.py

Only the last layers are trained. The frozen ones give the same answer in every epoch, so they run
once: `train` splits the model, turns the loaders of images into loaders of features, and fits the
rest on those. Step by step that is `split_frozen`, `feature_loaders`, `fit`.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import efficientnet_lite0

import cifarzoo as zoo

REPORT = {"train": 0.9754, "val": 0.8988, "test": 0.8872}
RESNET18, LITE0 = zoo.model_card("resnet18_transfer"), efficientnet_lite0.CARD


def few(loader: zoo.BatchLoader | None, batch_size: int) -> zoo.TensorLoader:
    """Take the first images of a loader."""
    assert isinstance(loader, zoo.TensorLoader)
    return zoo.TensorLoader(loader.images[:160], loader.labels[:160], batch_size=batch_size)


def load(data: str, batch_size: int, *, quick: bool) -> zoo.Loaders:
    """Give the data set, or a few images of it."""
    if data == "shapes":
        sets = zoo.shapes_loaders(batch_size)
    else:
        sets = zoo.cifar10_loaders(batch_size, root=None if data == "cifar10" else data)
    parts = (sets.train, sets.val, sets.test)
    return zoo.Loaders(*(few(part, batch_size) for part in parts)) if quick else sets


def transfer(card: zoo.ModelCard, loaders: zoo.Loaders, weights: str | None, out: Path) -> None:
    """Train, print the scores beside the report's, and draw the curves."""
    start = time.perf_counter()
    run = zoo.train(card, data=loaders, weights=weights)
    trained, total = (zoo.count_params(run.model, which=w) for w in ("trainable", "all"))
    seconds = time.perf_counter() - start
    print(f"{card.name}: {run.history.steps:,} steps, {seconds:,.0f} s in all; trained were")
    print(f"{trained:,} of {total:,} parameters (the report: 8,398,858 of 11,181,642)")
    print("      accuracy  95 % interval   report")
    for name, reported in REPORT.items():
        score: zoo.Evaluation | None = getattr(run, name)
        if score is not None:
            low, high = score.interval
            print(f"{name:>5} {score.accuracy:8.4f}  {low:.4f} - {high:.4f} {reported:8.4f}")
    out.mkdir(parents=True, exist_ok=True)
    picture = out / f"task4a_{card.name}.png"
    zoo.viz.plot_history(run.history, title=f"Task 4a: {card.name}").savefig(picture, dpi=150)
    print(f"wrote {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Task 4a: transfer learning.")
    parser.add_argument("--data", default="cifar10", help="cifar10, shapes, or CIFAR-10's folder")
    parser.add_argument("--quick", action="store_true", help="one epoch over a few images")
    backbones = ("resnet18", "efficientnet_lite0")
    parser.add_argument("--backbone", choices=backbones, default="resnet18")
    parser.add_argument("--weights", help="of ResNet-18: imagenet (default), or a file")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture goes")
    args = parser.parse_args()
    card = RESNET18 if args.backbone == "resnet18" else LITE0
    if args.quick:
        card = replace(card, recipe=replace(card.recipe, epochs=1))
    try:
        loaders = load(args.data, card.recipe.batch_size, quick=args.quick)
        transfer(card, loaders, args.weights, args.out)
    except (zoo.CifarZooError, OSError) as error:
        sys.exit(str(error))
