"""What the pages have in common: their arguments, their pictures, their last words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from matplotlib.figure import Figure

import cifarzoo as zoo

QUICK_IMAGES = 640  # of each split
Options: TypeAlias = Callable[[argparse.ArgumentParser], None]


def _no_options(parser: argparse.ArgumentParser) -> None:
    """Leave the parser as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What was asked for on the command line; `own` holds the options of one page alone."""

    data: Literal["cifar10", "shapes"]
    root: Path | None
    quick: bool
    seeds: tuple[int, ...]
    out: Path
    own: argparse.Namespace

    def run(self, card: zoo.ModelCard, seed: int, *, weights: str | None = None) -> zoo.Run:
        """Train by the card's recipe; --quick is one epoch over the first images."""
        data = self._few(card.recipe.batch_size, seed) if self.quick else self.data
        recipe = replace(card.recipe, epochs=1) if self.quick else card.recipe
        return zoo.train(card, data=data, root=self.root, recipe=recipe, weights=weights, seed=seed)

    def loaders(self, batch_size: int = 64, seed: int = 0) -> zoo.TensorLoaders:
        """Load the data that was asked for."""
        if self.data == "shapes":
            return zoo.shapes_loaders(batch_size, seed=seed)
        return zoo.cifar10_loaders(batch_size, root=self.root, seed=seed)

    def _few(self, batch_size: int, seed: int) -> zoo.Loaders:
        whole = self.loaders(batch_size, seed)
        val = whole.val and whole.val.first(QUICK_IMAGES)
        train, test = whole.train.first(QUICK_IMAGES), whole.test.first(QUICK_IMAGES)
        return zoo.Loaders(train=train, val=val, test=test)

    def save(self, figure: Figure, name: str, says: str) -> None:
        """Write a picture; what it says, in words, goes into the file beside it."""
        self.out.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.out / name, dpi=150, metadata={"Description": says})
        print(f"wrote {self.out / name}")


def written(values: Sequence[float], style: str) -> str:
    """Write the mean over the seeds, with its standard deviation if there are several."""
    found = zoo.mean_and_std(values)
    return f"{found.mean:{style}}" + ("" if found.std is None else f" ± {found.std:{style}}")


def _seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as 0,1,2."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r}; needed are different numbers, such as 0,1,2")
    return tuple(map(int, parts))


def parse(title: str, seeds: str, options: Options) -> Arguments:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=title)
    options(parser)
    parser.add_argument("--data", default="cifar10", help="cifar10, shapes, or CIFAR-10's folder")
    parser.add_argument("--quick", action="store_true", help="one epoch, a few images, one seed")
    parser.add_argument("--seeds", type=_seeds, default=seeds, help=f"default: {seeds}")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where pictures go")
    args = parser.parse_args()
    if args.data not in ("cifar10", "shapes") and not Path(args.data).is_dir():
        parser.error(f"--data is {args.data!r}; allowed: cifar10, shapes, or a folder that exists")
    return Arguments(
        data="shapes" if args.data == "shapes" else "cifar10",
        root=None if args.data in ("cifar10", "shapes") else Path(args.data),
        quick=args.quick,
        seeds=args.seeds[:1] if args.quick else args.seeds,
        out=args.out,
        own=args,
    )


def turn(
    page: Callable[[Arguments], None],
    title: str,
    *,
    seeds: str = "0",
    options: Options = _no_options,
    hint: str = "",
) -> None:
    """Read the command line and run a page; an error that says what to do ends it.

    Args:
        page: is given the arguments; those of its own options are in `own`.
        title: what --help says that it does.
        seeds: where none are named.
        options: adds the page's own options to the parser.
        hint: what to try after an error, beside what the error says.
    """
    args = parse(title, seeds, options)
    if args.quick or args.data == "shapes":
        reasons = ["one epoch over a few images"] * args.quick + ["the built-in shapes"] * (
            args.data == "shapes"
        )
        print(f"A trial run ({', '.join(reasons)}): the report's figures are not to be expected.\n")
    try:
        page(args)
    except zoo.CifarZooError as error:
        sys.exit(f"{error}\n{hint}".rstrip())
    except OSError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(130)
