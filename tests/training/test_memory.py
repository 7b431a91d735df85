"""A run holds no more tensors at its end than near its start; `benchmarks/soak.py` looks longer."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from cifarzoo import (
    Augmentation,
    Averaging,
    Callback,
    Distillation,
    ImageClassifier,
    Loaders,
    Mixing,
    ParamGroup,
    Proxy,
    Recipe,
    Selection,
    fit,
)
from cifarzoo.training.history import Check


class Counting(Callback):
    """Counts the tensors that are alive, and how many numbers they hold."""

    def __init__(self) -> None:
        self.held: list[tuple[int, int]] = []

    def on_check(self, check: Check) -> None:
        gc.collect()
        alive = [each for each in gc.get_objects() if issubclass(type(each), Tensor)]
        self.held.append((len(alive), sum(each.numel() for each in alive)))


@pytest.fixture(autouse=True)
def _only_what_is_made_from_here_on() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what other tests left is not looked at
    yield
    gc.unfreeze()


PLAIN = Recipe(epochs=4, batch_size=8, lr=0.01)
FLAT = ParamGroup(params="*", optimizer="sgd", momentum=0.5)
RECIPES = {
    "sgd": replace(PLAIN, momentum=0.9, checks_per_epoch=2),
    "adam": replace(PLAIN, optimizer="adam", lr=1e-3),
    "muon": replace(PLAIN, optimizer="muon", groups=(replace(FLAT, params="*bias"),)),
    "augmented": replace(
        PLAIN,
        augmentation=Augmentation(flip="random", translate=2, cutout=4, rand_augment=1),
        mixing=Mixing(kind="either"),
    ),
    "averaged": replace(PLAIN, averaging=Averaging(), schedule="cosine", warmup_epochs=1),
    "distilled": replace(PLAIN, distillation=Distillation(teacher="any")),
    "selected": replace(PLAIN, selection=Selection(every=2)),
}
MARKS = {"muon": pytest.mark.muon}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, ())) for name in RECIPES]
)
def test_a_run_does_not_gather_tensors(
    make_model: Callable[..., ImageClassifier],
    make_loaders: Callable[..., Loaders],
    tmp_path: Path,
    name: str,
) -> None:
    recipe, counting = RECIPES[name], Counting()
    teacher = make_model(seed=1) if recipe.distillation else None
    proxy = Proxy(model=make_model(seed=2), recipe=PLAIN) if recipe.selection else None
    fit(
        make_model(dropout=0.1),
        make_loaders(augmentation=recipe.augmentation),
        recipe,
        teacher=teacher,
        proxy=proxy,
        checkpoint=tmp_path / "run.pt",
        callbacks=[counting],
        progress=False,
    )
    held = counting.held[len(counting.held) // 2 :]
    assert held[0][0] > len(list(make_model().parameters()))
    assert set(held) == {held[0]}
