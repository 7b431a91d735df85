"""Early stopping."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["should_stop"]


def should_stop(losses: Sequence[float], patience: int) -> bool:
    """Return whether the first of the last `patience` validation losses is the lowest of them.

    Example:
        >>> should_stop([3.0, 1.0, 2.0, 2.0, 2.0], patience=4)
        True
    """
    recent = losses[-patience:]
    return len(recent) == patience and recent[0] == min(recent)
