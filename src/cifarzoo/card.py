"""`ModelCard`: a model of the zoo, its recipes and its trained weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, SkipValidation
from typing_extensions import override

from cifarzoo.display import HasTable, Table, settings_rows
from cifarzoo.errors import InvalidValueError, unknown
from cifarzoo.recipe import Recipe
from cifarzoo.record import Evaluation, RunRecord, Scores
from cifarzoo.validation import Name, PositiveInt, Tag, settings

if TYPE_CHECKING:
    from cifarzoo.models.classifier import ImageClassifier
else:
    ImageClassifier = object  # pydantic evaluates annotations

__all__ = ["DEFAULT", "STANDARD", "ModelCard", "Weights"]

DEFAULT = "default"  # selects the best CIFAR-10 weights of a model
STANDARD = "standard"  # tag of a card's first recipe


@settings
class Weights:
    """A file of trained weights and the runs behind it.

    Attributes:
        tag: value of `weights` in `build_model`; the tag of the recipe that made them.
        size_bytes: size of the file in bytes.
        runs: one run per seed, all with the same recipe. The file holds the weights of the run with
            the median test accuracy rather than the best one.
        scores: calibration, robustness and more of the file; None if not measured.
    """

    tag: Tag
    size_bytes: PositiveInt
    runs: tuple[RunRecord, ...] = Field(min_length=1, repr=False)
    scores: Scores | None = Field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check that every run has a test score."""
        if any(run.test is None for run in self.runs):
            raise InvalidValueError(
                f"weights {self.tag!r} have a run without a test score: expected one in each"
            )

    @property
    def run(self) -> RunRecord:
        """The run with the (lower) median test accuracy, whose weights are in the file."""
        ordered = sorted(self.runs, key=lambda run: (_test(run).accuracy, run.seed))
        return ordered[(len(ordered) - 1) // 2]

    @property
    def data(self) -> str:
        """Name of the data set of the runs, such as "cifar10"."""
        return self.run.data

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return self.run.weights_sha256 or ""

    @property
    def accuracy(self) -> float:
        """Test accuracy of the weights with a single view, in [0, 1]."""
        return _test(self.run).accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of `accuracy`, in [0, 1]."""
        return _test(self.run).interval

    @property
    def tta_accuracy(self) -> float | None:
        """Test accuracy of the weights with TTA (6 views), in [0, 1]; None if not measured."""
        tta = self.run.test_tta
        return None if tta is None or tta.tta != "flip_translate" else tta.accuracy

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds, in [0, 1]."""
        return statistics.fmean(_test(run).accuracy for run in self.runs)

    @property
    def std(self) -> float | None:
        """Standard deviation of the test accuracy over the seeds; None for one seed."""
        accuracies = [_test(run).accuracy for run in self.runs]
        return statistics.stdev(accuracies) if len(accuracies) > 1 else None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were run."""
        return tuple(sorted(run.seed for run in self.runs))

    @property
    def recipe(self) -> Recipe:
        """The recipe of the runs."""
        return self.run.recipe

    @property
    def seconds(self) -> float:
        """Median training time of the runs, in seconds."""
        return statistics.median(run.history.seconds for run in self.runs)

    @override
    def __str__(self) -> str:
        own = f"{self.accuracy:.2%} on {self.data}"
        if self.std is None:
            return f"{own} (seed {self.run.seed})"
        seeds = ", ".join(map(str, self.seeds))
        return f"{own} (mean {100 * self.mean:.2f} ± {self.std:.2%}, seeds {seeds})"


def _test(run: RunRecord) -> Evaluation:
    assert run.test is not None  # checked when the weights were created
    return run.test


@settings
class ModelCard(HasTable):
    """A model of the zoo: its architecture, recipes and trained weights.

    Attributes:
        name: name of the model, for `build_model`.
        family: module in `cifarzoo.models` that defines the model.
        summary: description in one line, for tables.
        builder: function of the number of classes that returns the model with random weights.
        recipes: recipes by tag; `train` uses the first by default. Weights have the tag of the
            recipe that made them.
        weights: trained weights in the package, best first; may be empty.
        initial_weights: tag of the weights that `train` starts from; None for random weights.
        paper: source of the architecture.
    """

    name: Name
    family: str
    summary: str
    builder: SkipValidation[Callable[[int], ImageClassifier]]
    recipes: Annotated[Mapping[Tag, Recipe], Field(min_length=1)]
    weights: tuple[Weights, ...] = ()
    initial_weights: str | None = None
    paper: str = ""

    @property
    def recipe(self) -> Recipe:
        """The recipe that `train` uses by default."""
        return next(iter(self.recipes.values()))

    def recipe_for(self, tag: str) -> Recipe:
        """Return the recipe with a tag.

        Raises:
            InvalidValueError: no recipe has this tag.
        """
        if tag not in self.recipes:
            raise unknown(f"recipe of {self.name}", tag, self.recipes)
        return self.recipes[tag]

    def with_recipe(self, recipe: Recipe, tag: str = STANDARD) -> ModelCard:
        """Return a copy of the card with a single recipe and without weights."""
        return replace(self, recipes={tag: recipe}, weights=())

    def weights_for(self, tag: str) -> Weights | None:
        """Return the packaged weights with a tag ("default": the best for CIFAR-10), or None."""
        if tag == DEFAULT:
            return next((each for each in self.weights if each.data == "cifar10"), None)
        return next((weights for weights in self.weights if weights.tag == tag), None)

    @override
    def table(self) -> Table:
        weights = []
        for each in self.weights:
            weights.append((f"weights {each.tag!r}", str(each)))
            scores = each.scores.rows() if each.scores else []
            weights += [(f"weights {each.tag!r}: {name}", value) for name, value in scores]
        rows = [
            ("family", self.family),
            ("summary", self.summary),
            ("source", self.paper),
            *(weights or [("weights", "none in the package")]),
            *((f"recipe: {name}", value) for name, value in settings_rows(self.recipe)),
            *((f"recipe {tag!r}", f"{each.epochs} epochs") for tag, each in self.recipes.items()),
        ]
        return Table(title=self.name, header=("what", "value"), rows=tuple(rows))
