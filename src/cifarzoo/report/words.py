"""Numbers in words, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from cifarzoo.evaluation.statistics import Estimate

__all__ = ["duration", "interval", "number", "plus_minus", "seeds_words", "signed"]

MINUS = "−"  # a hyphen is narrower than a plus


def number(value: float, digits: int = 2, scale: float = 1.0) -> str:
    """Write a number; thousands are set apart by commas.

    Example:
        >>> number(5265, 0), number(0.7251, 2, 100)
        ('5,265', '72.51')
    """
    return f"{scale * value:,.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 2, scale: float = 1.0) -> str:
    """Write a difference, with its sign; zero has none."""
    text = f"{scale * value:+,.{digits}f}"
    return text[1:] if not float(text.replace(",", "")) else text.replace("-", MINUS)


def plus_minus(estimate: Estimate, digits: int = 2, scale: float = 1.0) -> str:
    """Write a mean, with its standard deviation if there were several runs."""
    mean = number(estimate.mean, digits, scale)
    if estimate.std is None:
        return mean
    return f"{mean} ± {number(estimate.std, digits, scale)}"


def interval(estimate: Estimate, digits: int = 2, scale: float = 1.0) -> str:
    """Write the 95 % interval of a difference; empty for a single run."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (signed(end, digits, scale) for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def duration(seconds: float) -> str:
    """Write a time as it is said: 41 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def seeds_words(seeds: Iterable[int]) -> str:
    """Write which seeds were run.

    Example:
        >>> seeds_words((0, 1, 2)), seeds_words((4,))
        ('seeds 0, 1, 2', 'seed 4')
    """
    listed = sorted(seeds)
    return f"seed{'s' if len(listed) != 1 else ''} {', '.join(map(str, listed))}"
