"""What the zoo has: `ModelCard`, one model, and `Weights`, one file that it was trained to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from cifarzoo.display import Display, Shown, settings_rows
from cifarzoo.errors import one_of
from cifarzoo.spec.checks import (
    require,
    require_number,
    require_share,
    require_text,
    require_whole,
)
from cifarzoo.spec.recipe import Recipe

if TYPE_CHECKING:
    from cifarzoo.models.classifier import ImageClassifier

__all__ = ["DEFAULT_TAG", "ModelCard", "Weights", "require_tag"]

DEFAULT_TAG = "default"  # of a card's own recipe, and of the weights it gives


def require_tag(tag: object) -> None:
    """Refuse what cannot name weights, for it becomes part of a file's name.

    Raises:
        OptionError: that says what is allowed.
    """
    allowed = "lower-case letters, digits and underscores, which are not first"
    require_text("tag", tag, r"[a-z0-9][a-z0-9_]*", allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One file of trained weights and the measurement behind it.

    Of several runs the one of the median accuracy is kept, never the best one.

    Attributes:
        tag: what `build_model(name, weights=tag)` takes; lower case, digits and underscores.
        sha256: hash of the safetensors file, checked at every load.
        size_bytes: length of the file in bytes.
        accuracy: of this very file over the test set, single view, in [0, 1].
        interval: 95 % Wilson interval of that accuracy, in [0, 1].
        mean: of the test accuracy over the seeds, in [0, 1].
        std: standard deviation over the seeds, in [0, 1]; None for one seed.
        seeds: the seeds that were run.
        seed: the one of them whose weights these are, 0 or more.
        recipe: what they were trained with.
        seconds: median time of a run's training, in seconds.
        machine: what they were trained on.
        views: accuracy of this very file with six-view test-time augmentation, in [0, 1]; None
            where it was not measured.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    tag: str
    sha256: str
    size_bytes: int
    accuracy: float
    interval: tuple[float, float]
    mean: float
    std: float | None
    seeds: tuple[int, ...]
    seed: int
    recipe: Recipe
    seconds: float
    machine: str
    views: float | None = None

    def __post_init__(self) -> None:
        require_tag(self.tag)
        require_text("sha256", self.sha256, r"[0-9a-f]{64}", "64 lower-case hex digits")
        require_whole("size_bytes", self.size_bytes, 1, math.inf, "1 or more")
        for name in ("accuracy", "mean"):
            require_share(name, getattr(self, name))
        for name in ("std", "views"):
            require_share(name, getattr(self, name), optional=True)
        _require_interval(self.interval, self.accuracy)
        _require_seeds(self.seeds)
        require("seed", self.seed, f"one of the seeds {self.seeds}", met=self.seed in self.seeds)
        one = len(self.seeds) == 1
        require("std", self.std, "None for one seed, else a number", met=(self.std is None) == one)
        recipe: object = self.recipe
        require("recipe", recipe, "Recipe(...)", met=isinstance(recipe, Recipe))
        require_number("seconds", self.seconds, "0 or more")
        require("seconds", self.seconds, "0 or more", met=0 <= self.seconds < math.inf)
        require_text("machine", self.machine, r".+", "a description in one line")

    @property
    def measured(self) -> str:
        """Words such as "94.12% (mean 94.05 ± 0.10%, seeds 0, 1, 2)"."""
        own = f"{self.accuracy:.2%}"
        if self.std is None:
            return f"{own} (seed {self.seed})"
        seeds = ", ".join(map(str, self.seeds))
        return f"{own} (mean {100 * self.mean:.2f} ± {self.std:.2%}, seeds {seeds})"


def _require_interval(value: object, accuracy: float) -> None:
    allowed = f"two numbers from 0 to 1 around the accuracy ({accuracy})"
    ends = value if isinstance(value, tuple) else ()
    are_numbers = all(isinstance(end, Real) and not isinstance(end, bool) for end in ends)
    require("interval", value, allowed, met=len(ends) == 2 and are_numbers)
    low, high = ends
    require("interval", value, allowed, met=0 <= low <= accuracy <= high <= 1)


def _require_seeds(value: object) -> None:
    seeds = value if isinstance(value, tuple) else ()
    are_seeds = all(isinstance(seed, int) and seed >= 0 for seed in seeds)
    once = len(set(seeds)) == len(seeds)
    allowed = "at least one seed, 0 or more, each once, in a tuple"
    require("seeds", value, allowed, met=bool(seeds) and are_seeds and once)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard(Shown):
    """One model of the zoo: how it is built, trained and described.

    Attributes:
        name: what `build_model` takes; lower case, digits and underscores.
        family: the file under `cifarzoo.models` that holds it.
        summary: one line for tables.
        builder: takes the number of classes and returns the model with random weights.
        recipe: how it is trained.
        more_recipes: other ways to train it: pairs of the tag of their weights and the recipe.
        weights: trained weights that come with the package, those by `recipe` first; may be empty.
        initial_weights: the tag that `train` starts from; None starts from random weights.
        paper: where the architecture comes from.

    Raises:
        OptionError: the name is not an identifier in lower case, or two recipes have one tag.
    """

    name: str
    family: str
    summary: str
    builder: Callable[[int], ImageClassifier]
    recipe: Recipe
    more_recipes: tuple[tuple[str, Recipe], ...] = ()
    weights: tuple[Weights, ...] = ()
    initial_weights: str | None = None
    paper: str

    def __post_init__(self) -> None:
        require(
            "name",
            self.name,
            "lower-case letters, digits and underscores, a letter first",
            met=re.fullmatch(r"[a-z][a-z0-9_]*", self.name) is not None,
        )
        tags = [tag for tag, _ in self.more_recipes]
        for tag in tags:
            require_tag(tag)
        allowed = f"each tag once, and not {DEFAULT_TAG!r}, which is for `recipe`"
        once = len({DEFAULT_TAG, *tags}) == 1 + len(tags)
        require("more_recipes", tags, allowed, met=once)

    @property
    def recipe_tags(self) -> tuple[str, ...]:
        """What `recipe_for` takes: "default" for `recipe`, and the tags of `more_recipes`."""
        return (DEFAULT_TAG, *(tag for tag, _ in self.more_recipes))

    def recipe_for(self, tag: str) -> Recipe:
        """Give the recipe whose weights have a tag.

        Args:
            tag: one of `recipe_tags`.

        Raises:
            OptionError: the card has no recipe with that tag.
        """
        if tag not in self.recipe_tags:
            raise one_of(f"recipe of {self.name}", tag, self.recipe_tags)
        return self.recipe if tag == DEFAULT_TAG else dict(self.more_recipes)[tag]

    def weights_for(self, tag: str) -> Weights | None:
        """Give the weights that come with the package and have a tag.

        Args:
            tag: of the weights; "default" also stands for the first ones of a card that has none
                with that tag.

        Returns:
            What is known of them; None where there are none.
        """
        if tag == DEFAULT_TAG:
            return next(iter(self.weights), None)
        return next((each for each in self.weights if each.tag == tag), None)

    def _display(self) -> Display:
        weights = [(f"weights {each.tag!r}", each.measured) for each in self.weights]
        rows = [
            ("family", self.family),
            ("summary", self.summary),
            ("source", self.paper),
            *(weights or [("weights", "none come with the package")]),
            *((f"recipe: {name}", value) for name, value in settings_rows(self.recipe)),
            *((f"recipe {tag!r}", f"{each.epochs} epochs") for tag, each in self.more_recipes),
        ]
        return Display(title=self.name, header=("what", "value"), rows=tuple(rows))
