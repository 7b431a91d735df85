"""Measure what the model cards report beyond accuracy, for CIFAR-10 weights in the package.

    python tools/score_weights.py [NAME ...] --duplicates duplicates_cifar10.csv [--data ROOT]

Without names, all of these weights are scored; each file takes minutes on a CPU. The list of
near-duplicates is that of ciFAIR (https://github.com/cvjena/cifair). ROOT, or CIFARZOO_DATA, holds
the folders of CIFAR-10 and CIFAR-100. Everything is computed in float32 on fixed images:

- Calibration: all test images. The temperature is fitted on the recipe's validation images; of
  weights that were trained on all training images, on the first 5,000 of them with random flips and
  shifts.
- Common corruptions: the same 2,000 random test images for each of 15 corruptions and 5 severities.
- Detection of CIFAR-100: all test images of both sets.
- PGD-20: the first 1,000 of the 2,000 images.

The script must run in a git checkout without uncommitted changes, since the records refer to a
commit. `--limit N` takes at most N images for each measurement, and writes nothing.
"""

from __future__ import annotations

import argparse
import csv
import os
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import cifarzoo as zoo
from cifarzoo.device import resolve_device
from cifarzoo.errors import DataNotFoundError
from cifarzoo.evaluation.attack import pgd_attack
from cifarzoo.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifarzoo.evaluation.evaluate import evaluation_from_logits
from cifarzoo.evaluation.predict import compute_logits
from cifarzoo.evaluation.statistics import auroc, calibration_error, fit_temperature
from cifarzoo.files import write_text
from cifarzoo.record import Scores
from cifarzoo.run import provenance
from cifarzoo.validation import PositiveInt, validate
from cifarzoo.weights import scores_file

__all__ = ["Images", "main", "score"]

BATCH_SIZE = 250
TEMPERATURE_IMAGES = 5_000
CORRUPTION_IMAGES = 2_000
PGD_IMAGES = 1_000
AUGMENTATION = zoo.Augmentation(flip="random", translate=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images that all weights are scored on."""

    test: zoo.TensorLoader
    is_unique: Tensor  # bool (N,): test images without a near-duplicate
    corrupted: Mapping[str, Sequence[zoo.TensorLoader]]  # by corruption, one per severity
    attacked: zoo.TensorLoader
    others: zoo.TensorLoader  # CIFAR-100


def load(root: Path | None, duplicates: Path, *, limit: int | None) -> Images:
    """Load and corrupt the images.

    Raises:
        DataNotFoundError: CIFAR-100 or the list of duplicates was not found.
        CifarZooError: the errors of `cifar10_loaders`.
    """
    others = _cifar100_test(root)
    test = zoo.cifar10_loaders(root=root, download=False).test
    is_unique = torch.ones(test.n, dtype=torch.bool)
    is_unique[_duplicates(duplicates)] = False
    order = torch.randperm(test.n, generator=torch.Generator().manual_seed(0))
    chosen = order[: min(CORRUPTION_IMAGES, limit or CORRUPTION_IMAGES)]
    images, labels = test.images[chosen], test.labels[chosen]
    corrupted = {
        name: [_loader(corrupt(images, name, severity), labels) for severity in SEVERITIES]
        for name in CORRUPTIONS
    }
    test = test.first(limit or test.n)
    return Images(
        test=test,
        is_unique=is_unique[: test.n],
        corrupted=corrupted,
        attacked=_loader(images[:PGD_IMAGES], labels[:PGD_IMAGES]),
        others=_loader(others[:limit], torch.zeros(len(others[:limit]), dtype=torch.int64)),
    )


def _loader(images: Tensor, labels: Tensor) -> zoo.TensorLoader:
    return zoo.TensorLoader(images, labels, batch_size=BATCH_SIZE)


def _duplicates(path: Path) -> list[int]:
    """Return the test images in ciFAIR's list of pairs."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [int(row["TestID"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise DataNotFoundError(
            f"{path} is not ciFAIR's duplicates_cifar10.csv: {error}"
        ) from error


def _cifar100_test(root: Path | None) -> Tensor:
    """Return the test images of CIFAR-100, uint8 (N,3,32,32); to be replaced by its loaders."""
    path = Path(root or os.environ.get("CIFARZOO_DATA", ""), "cifar-100-python", "test")
    if not path.is_file():
        raise DataNotFoundError(f"{path} does not exist: expected the test images of CIFAR-100")
    with path.open("rb") as file:
        pixels = pickle.load(file, encoding="bytes")[b"data"]
    return torch.from_numpy(pixels).view(-1, 3, 32, 32)


def score(
    name: str, weights: zoo.Weights, images: Images, *, root: Path | None, device: str = "auto"
) -> Scores:
    """Measure one file of packaged weights."""
    model, target = zoo.build_model(name, weights=weights.tag), resolve_device(device)

    def logits_of(data: zoo.TensorLoader) -> tuple[Tensor, Tensor]:
        return compute_logits(model, data, device=target, dtype=torch.float32)

    def accuracy_of(data: zoo.TensorLoader) -> float:
        return zoo.evaluate(model, data, device=target).accuracy

    fitted_on, description = _temperature_images(weights.recipe, root, images.test.n)
    temperature = fit_temperature(*logits_of(fitted_on))
    logits, labels = logits_of(images.test)
    other_logits, _ = logits_of(images.others)
    is_unique = images.is_unique.to(target)
    plain = evaluation_from_logits(logits, labels)
    unique = evaluation_from_logits(logits[is_unique], labels[is_unique])
    attacked = [
        (pgd_attack(model, batch, truth), truth) for batch, truth in images.attacked.to(target)
    ]
    return Scores(
        weights_sha256=weights.sha256,
        unique_accuracy=unique.accuracy,
        unique_images=unique.n,
        calibration_error=plain.calibration_error,
        temperature=temperature,
        temperature_images=description,
        scaled_calibration_error=calibration_error((logits / temperature).softmax(1), labels),
        corruptions={
            corruption: tuple(map(accuracy_of, loaders))
            for corruption, loaders in images.corrupted.items()
        },
        corruption_images=images.corrupted[CORRUPTIONS[0]][0].n,
        auroc_probability=auroc(logits.softmax(1).amax(1), other_logits.softmax(1).amax(1)),
        auroc_energy=auroc(logits.logsumexp(1), other_logits.logsumexp(1)),
        pgd_accuracy=zoo.evaluate(model, attacked, device=target).accuracy,
        pgd_images=images.attacked.n,
        provenance=provenance(target, "float32"),
    )


def _temperature_images(
    recipe: zoo.Recipe, root: Path | None, limit: int
) -> tuple[zoo.TensorLoader, str]:
    """Return the images that the temperature is fitted on, and their description."""
    loaders = zoo.cifar10_loaders(recipe=recipe, root=root, download=False)
    n = min(TEMPERATURE_IMAGES, limit)
    if loaders.val is not None:
        held_out = loaders.val.first(n)
        return held_out, f"the first {held_out.n:,} validation images"
    images, labels = loaders.train.images[:n], loaders.train.labels[:n]
    train = zoo.TensorLoader(images, labels, batch_size=BATCH_SIZE, augmentation=AUGMENTATION)
    changes = f"flipped and shifted by up to {AUGMENTATION.translate} pixels"
    return train, f"the first {train.n:,} training images, {changes}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the weights that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; all by default")
    parser.add_argument("--duplicates", type=Path, required=True, help="ciFAIR's list")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 and CIFAR-100")
    parser.add_argument("--limit", type=int, help="images for each measurement; writes nothing")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    source = provenance()
    if options.limit is None and (source.commit is None or source.dirty is not False):
        sys.exit("expected a git checkout of cifarzoo without uncommitted changes")
    try:
        validate("limit", options.limit, PositiveInt | None)
        cards = [zoo.model_card(name) for name in options.names or zoo.list_models()]
        pairs = [(card.name, weights) for card in cards for weights in card.weights]
        files = [pair for pair in pairs if pair[1].run.data == "cifar10"]
        images = load(options.data, options.duplicates, limit=options.limit)
        for name, weights in files:
            start = time.perf_counter()
            scores = score(name, weights, images, root=options.data, device=options.device)
            seconds = time.perf_counter() - start
            print(f"{name} {weights.tag}, {seconds:,.0f} s\n{scores}\n", flush=True)
            if options.limit is None:
                write_text(scores_file(name, weights.tag), scores.to_json())
    except zoo.CifarZooError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
