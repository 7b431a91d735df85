from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cifarzoo import viz
from cifarzoo.recipe import Augmentation
from cifarzoo.record import Check, History, StopReason

Drawings: TypeAlias = Mapping[str, Callable[[], Figure]]


@pytest.fixture
def make_history() -> Callable[..., History]:
    """Make a deterministic run with a check every 100 steps; `shift` is added to losses."""

    def make(
        checks: int = 8,
        *,
        shift: float = 0.0,
        stopped: StopReason = "early",
        validation: bool = True,
        last_loss: float | None = None,
    ) -> History:
        made = []
        for i in range(1, checks + 1):
            val_loss = 0.8 + math.exp(-i) + 0.02 * i + shift
            train_loss = 1.5 * math.exp(-i / 4) + shift
            check = Check(
                step=100 * i,
                epoch=i / 2,
                train_loss=train_loss if last_loss is None or i < checks else last_loss,
                train_accuracy=1 - 0.6 * math.exp(-i / 4),
                val_loss=val_loss if validation else None,
                val_accuracy=max(0.0, 1 - val_loss / 3) if validation else None,
                lr=0.05,
                seconds=10.0 * i,
            )
            made.append(check)
        best = min(made, key=lambda c: c.val_loss or c.train_loss, default=None)
        return History(
            checks=tuple(made),
            best_step=best.step if best else 0,
            stopped=stopped,
            steps=100 * checks,
            images=6400 * checks,
            seconds=10.0 * checks,
        )

    return make


@pytest.fixture
def assert_fits() -> Callable[[Figure], None]:
    """Check that a figure is laid out without a warning and without cutting anything off."""

    def check(figure: Figure) -> None:
        figure.draw_without_rendering()
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert box is not None
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -0.01

    return check


def _network() -> nn.Sequential:
    """A small network with deterministic weights."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 16 * 16, 4),
    )
    for parameter in model.parameters():
        steps = torch.arange(parameter.numel(), dtype=torch.float64)
        parameter.data = (0.3 * torch.cos(1.7 * steps + 0.1 * steps.sqrt())).view_as(parameter)
    return model.float()


def _four_images() -> Tensor:
    """Four corners of the test pattern, uint8 (4,3,32,32)."""
    pattern = (255 * viz.orientation_pattern(64)).to(torch.uint8)
    return torch.stack([pattern[:, r : r + 32, c : c + 32] for r in (0, 32) for c in (0, 32)])


@pytest.fixture
def drawings(make_history: Callable[..., History]) -> Drawings:
    """Every picture once, with deterministic data."""
    images, labels, model = _four_images(), torch.tensor([0, 1, 2, 3]), _network()
    probabilities = torch.tensor([[6, 2, 1, 1], [5, 3, 1, 1], [1, 1, 7, 1], [1, 6, 1, 2]]) / 10
    names = ["cat", "dog", "ship", "truck"]
    counts = torch.tensor([[80, 15, 0, 5], [20, 70, 5, 5], [0, 2, 96, 2], [1, 3, 6, 90]])
    runs = [make_history(), make_history(7, shift=0.05)]
    histories = {"before": runs, "after": [make_history(shift=-0.2)]}
    points = [
        viz.ModelPoint(name="small", size=1e5, accuracy=0.9, std=0.01),
        viz.ModelPoint(name="large", size=2e6, accuracy=0.95),
        viz.ModelPoint(name="resnet20", size=2.7e5, accuracy=0.926, source="others"),
    ]
    confidence = torch.linspace(0.3, 0.99, 60)
    binary = torch.stack([confidence, 1 - confidence], dim=1)
    binary_labels = (torch.arange(60) % 3 == 0).long() * (confidence < 0.8).long()
    strong = Augmentation(flip="alternating", translate=4, cutout=8)
    image, conv = images[0], model[0]
    assert isinstance(conv, nn.Conv2d)
    return {
        "plot_activations": partial(viz.plot_activations, model, image, "0"),
        "plot_augmentation": partial(viz.plot_augmentation, images, strong, epochs=4),
        "plot_confusion": partial(viz.plot_confusion, counts, names),
        "plot_filter_responses": partial(viz.plot_filter_responses, model, image, "0"),
        "plot_filters": partial(viz.plot_filters, conv),
        "plot_gap": partial(viz.plot_gap, histories),
        "plot_grad_cam": partial(viz.plot_grad_cam, model, images / 255, class_names=names),
        "plot_histories": partial(viz.plot_histories, histories),
        "plot_history": partial(viz.plot_history, runs[0]),
        "plot_images": partial(viz.plot_images, images, labels, names),
        "plot_mistakes": partial(viz.plot_mistakes, images, labels, probabilities, names),
        "plot_network": partial(viz.plot_network, model),
        "plot_occlusion": partial(viz.plot_occlusion, model, images / 255, class_names=names),
        "plot_per_class": partial(viz.plot_per_class, counts, names),
        "plot_predictions": partial(viz.plot_predictions, images, labels, probabilities, names),
        "plot_receptive_field": partial(viz.plot_receptive_field, model, image, "3"),
        "plot_reliability": partial(viz.plot_reliability, binary_labels, binary),
        "plot_sizes": partial(viz.plot_sizes, points),
    }
