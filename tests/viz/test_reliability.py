from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from torchmetrics.functional.classification import multiclass_calibration_error

from cifarzoo.errors import InvalidValueError
from cifarzoo.viz import plot_reliability


@pytest.mark.parametrize("bins", [2, 15])
def test_the_calibration_error_agrees_with_torchmetrics(bins: int) -> None:
    generator = torch.Generator().manual_seed(3)
    probabilities = (2 * torch.randn(400, 5, generator=generator)).softmax(1)
    labels = torch.randint(5, (400,), generator=generator)
    title = plot_reliability(labels, probabilities, bins=bins).get_suptitle()
    found = re.match(rf"expected calibration error ([\d.]+)% over {bins} bins, 400 images", title)
    assert found
    expected = multiclass_calibration_error(probabilities, labels, 5, n_bins=bins).item()
    assert float(found[1]) == pytest.approx(100 * expected, abs=0.0051)


def test_an_example_worked_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.55, 0.45], [1, 0]])
    upper, lower = plot_reliability(torch.tensor([0, 1, 0, 0, 0]), probabilities, bins=4).axes
    points = next(line for line in upper.lines if line.get_marker() == "o")
    np.testing.assert_allclose(np.asarray(points.get_xdata()), [62.5, 90])
    np.testing.assert_allclose(np.asarray(points.get_ydata()), [50, 100])
    bars = [patch for patch in lower.patches if isinstance(patch, Rectangle)]
    assert [bar.get_height() for bar in bars] == pytest.approx([40, 60])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert centres == pytest.approx([62.5, 87.5])


def test_unsuitable_bins_and_probabilities_are_rejected() -> None:
    labels, probabilities = torch.tensor([0, 1]), torch.tensor([[0.9, 0.1], [0.7, 0.3]])
    for bins in (1, 101):
        with pytest.raises(InvalidValueError, match="bins"):
            plot_reliability(labels, probabilities, bins=bins)
    for wrong, truth in ((probabilities.log(), labels), (probabilities, labels[:0])):
        with pytest.raises(InvalidValueError, match="probabilities"):
            plot_reliability(truth, wrong)
