"""The answer to: is the difference real?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cifarzoo.display import Display, Shown

__all__ = ["Comparison"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Shown):
    """How far a is above b, and whether that is more than chance.

    Attributes:
        accuracy_a: of a, in [0, 1]; the mean of several runs.
        accuracy_b: of b, in [0, 1]; the mean of several runs.
        difference: accuracy of a less that of b, in [-1, 1]; 0.01 is a point.
        low: lower end of the difference's confidence interval, in the same unit, 0.01 a point;
            None where there is none: one run alone, or runs without any spread.
        high: upper end, in the same unit, 0.01 a point; None likewise.
        p_value: two-sided, in [0, 1]: how often chance alone makes a difference this large; None
            likewise. Without any spread it is 1 where a and b are the same.
        test: "paired t-test", "Welch's t-test" or "exact McNemar test".
        n: how many runs a and b have; how many images, where models are compared.
        confidence: of the interval, between 0 and 1.
    """

    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    test: Literal["paired t-test", "Welch's t-test", "exact McNemar test"]
    n: tuple[int, int]
    confidence: float

    @property
    def verdict(self) -> Literal["clear", "may be noise", "cannot tell"]:
        """The result in words; "clear" where the interval leaves out zero and the test agrees."""
        if self.p_value is None:
            return "cannot tell"
        bounded = self.low is not None and self.high is not None
        apart = bounded and (self.low > 0 or self.high < 0)  # type: ignore[operator]
        return "clear" if apart and self.p_value < 1 - self.confidence else "may be noise"

    def __str__(self) -> str:
        why = f" ({self._why})" if self._why else ""
        return (
            f"a − b: {_points(self.difference)} points ({self._level} {self._interval}), "
            f"{self.test} over {self._over}, {self._chance}: {self.verdict}{why}"
        )

    def _display(self) -> Display:
        one_state = "of these two trained models, not of the methods that made them"
        rows = [
            ("accuracy of a", f"{self.accuracy_a:.2%}"),
            ("accuracy of b", f"{self.accuracy_b:.2%}"),
            ("a − b", f"{_points(self.difference)} points"),
            (self._level, self._interval),
            (self.test, self._chance),
            ("over", self._over),
            ("verdict", self.verdict),
        ]
        return Display(
            title="Comparison",
            header=("what", "value"),
            rows=tuple(rows),
            numbers=("value",),
            note=one_state if self.test == "exact McNemar test" else self._why,
        )

    @property
    def _level(self) -> str:
        """Name the interval, such as "95 % interval"."""
        return f"{100 * self.confidence:g} % interval"

    @property
    def _interval(self) -> str:
        """Give both ends of the interval, in points."""
        if self.low is None or self.high is None:
            return "not known"
        return f"{_points(self.low)} to {_points(self.high)}"

    @property
    def _chance(self) -> str:
        """Give p, such as "p = 0.063"."""
        if self.p_value is None:
            return "no p"
        return "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"

    @property
    def _over(self) -> str:
        """Give how many runs, pairs or images there are."""
        a, b = self.n
        if self.test == "Welch's t-test":
            return f"{a} and {b} runs"
        unit = "image" if self.test == "exact McNemar test" else "pair"
        return f"{a:,} {unit}" + ("s" if a != 1 else "")

    @property
    def _why(self) -> str:
        """Tell why nothing can be told; empty where it can."""
        if self.p_value is not None:
            return ""
        if min(self.n) < 2:
            return (
                "one run shows no spread; run more seeds, or compare two trained models image by "
                "image"
            )
        what = "the runs of a, and those of b," if "Welch" in self.test else "the differences"
        return f"{what} are all the same, which is no spread to judge by"


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}"  # + 0.0: zero is never written -0.00
