from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torchmetrics.functional.classification import multiclass_calibration_error

from cifarzoo.errors import OptionError, RangeError, ShapeError
from cifarzoo.viz import plot_reliability


def _sample(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    likely = (2 * torch.randn(n, 5)).softmax(1)
    return likely, torch.randint(5, (n,))


def test_the_error_is_that_of_torchmetrics(assert_fits: Callable[[Figure], None]) -> None:
    likely, labels = _sample()
    figure = plot_reliability(likely, labels)
    found = re.match(r"expected calibration error ([\d.]+)% over 15 bins", figure.get_suptitle())
    assert found
    wanted = multiclass_calibration_error(likely, labels, 5, n_bins=15).item()
    assert float(found[1]) == pytest.approx(100 * wanted, abs=0.0051)
    assert_fits(figure)


def test_two_bins_by_hand() -> None:
    likely = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.55, 0.45]])
    figure = plot_reliability(likely, torch.tensor([0, 1, 0, 0]), bins=4)
    upper, lower = figure.axes
    points = next(line for line in upper.lines if line.get_marker() == "o")
    assert points.get_xdata() == pytest.approx([62.5, 85])
    assert points.get_ydata() == pytest.approx([50, 100])
    bars = [patch for patch in lower.patches if isinstance(patch, Rectangle)]
    assert [bar.get_height() for bar in bars] == [50, 50]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    np.testing.assert_allclose(centres, [62.5, 87.5])
    assert upper.get_ylabel() == "accuracy (%)"
    assert lower.get_xlabel().endswith("(%)")


def test_full_confidence_lies_in_the_last_bin() -> None:
    figure = plot_reliability(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), bins=10)
    (bar,) = [patch for patch in figure.axes[1].patches if isinstance(patch, Rectangle)]
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(95)
    assert figure.get_suptitle().startswith("expected calibration error 0.00%")


def test_refuses_what_cannot_be_drawn() -> None:
    likely, labels = _sample(4)
    with pytest.raises(OptionError, match="bins is 1"):
        plot_reliability(likely, labels, bins=1)
    with pytest.raises(RangeError, match="softmax"):
        plot_reliability(likely.log(), labels)
    with pytest.raises(ShapeError, match="at least one image"):
        plot_reliability(likely[:0], labels[:0])
