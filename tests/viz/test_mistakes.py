from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cifarzoo.errors import LabelError, OptionError, ShapeError
from cifarzoo.viz import plot_mistakes

IMAGES = torch.arange(4, dtype=torch.uint8).mul(60).view(4, 1, 1, 1).expand(4, 3, 8, 8)
LIKELY = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.05, 0.95]])


def test_the_surest_mistakes_come_first(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_mistakes(IMAGES, torch.tensor([1, 0, 0, 1]), LIKELY, ["cat", "dog"])
    shown = [axis.images[0].get_array() for axis in figure.axes[::2]]
    assert [round(float(np.asarray(each)[0, 0, 0]) * 255) for each in shown] == [0, 60, 120]
    assert [axis.get_title() for axis in figure.axes[::2]] == ["dog ✗", "cat ✗", "cat ✗"]
    assert figure.get_suptitle() == "the 3 surest of 3 mistakes among 4 images"
    assert_fits(figure)


def test_count_limits_them() -> None:
    figure = plot_mistakes(IMAGES, torch.tensor([1, 0, 0, 1]), LIKELY, count=1)
    assert len(figure.axes) == 2
    assert figure.get_suptitle() == "the 1 surest of 3 mistakes among 4 images"


@pytest.mark.parametrize("title", [None, "a title"])
def test_without_a_mistake_it_says_so(
    title: str | None, assert_fits: Callable[[Figure], None]
) -> None:
    figure = plot_mistakes(IMAGES, torch.tensor([0, 1, 1, 1]), LIKELY, title=title)
    texts = [figure.get_suptitle(), *(text.get_text() for text in figure.axes[0].texts)]
    assert "no mistake among 4 images" in texts
    assert_fits(figure)


def test_refuses_what_cannot_be_drawn() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(OptionError, match="count is 0; allowed: whole numbers, 1 to 36"):
        plot_mistakes(IMAGES, labels, LIKELY, count=0)
    with pytest.raises(LabelError, match="label 2"):
        plot_mistakes(IMAGES, labels + 2, LIKELY)
    with pytest.raises(ShapeError, match=r"probabilities have shape \(3, 2\)"):
        plot_mistakes(IMAGES, labels, LIKELY[:3])
