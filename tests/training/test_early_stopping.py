from __future__ import annotations

import pytest

from cifarzoo.training.early_stopping import should_stop


def _stops_at(losses: list[float], patience: int) -> int | None:
    stops = (n for n in range(1, len(losses) + 1) if should_stop(losses[:n], patience))
    return next(stops, None)


@pytest.mark.parametrize(
    ("losses", "check"),
    [
        ([5, 4, 3, 2, 1, 0.5], None),
        ([3, 1, 2, 2, 2], 5),  # 1 is the first of the last four, and the lowest of them
        ([1, 2, 2], None),  # fewer than four checks
        ([3, 1, 2, 2, 0.9, 2, 2, 2], 8),  # 0.9 is in time
        ([2, 2, 2, 2], 4),
        ([4, 5, 3.9, 6, 3.8, 7, 7, 7], 8),
    ],
)
def test_run_stops_if_the_first_of_the_last_four_losses_is_the_lowest(
    losses: list[float], check: int | None
) -> None:
    assert _stops_at(losses, 4) == check
