"""The parts of transfer learning together: split, features, fit."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cifarzoo.data.features import feature_loaders
from cifarzoo.data.loaders import Loaders, TensorLoader
from cifarzoo.evaluation.evaluate import evaluate
from cifarzoo.models.backbone import TransferClassifier, split_frozen, transfer_classifier
from cifarzoo.models.classifier import Preprocess
from cifarzoo.run import train
from cifarzoo.spec import ModelCard, Recipe
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.fit import fit
from cifarzoo.training.history import Check, History

RECIPE = Recipe(epochs=2, batch_size=8, optimizer="adam", lr=1e-3, checks_per_epoch=2)
ROW_BYTES = 6 * 7 * 7 * 4


def build(num_classes: int = 10) -> TransferClassifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=4),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(6 * 5 * 5, 1000),
    )
    return transfer_classifier(
        backbone,
        preprocess=Preprocess(size=32),
        trainable=("3", "4", "6"),
        head="6",
        num_classes=num_classes,
    )


def data(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (n,), generator=generator)
    noise = torch.randint(0, 60, (n, 3, 32, 32), generator=generator)
    return (noise + 19 * labels[:, None, None, None]).to(torch.uint8), labels


def loaders() -> Loaders:
    options = {"shuffle": "every_epoch", "last_batch": "drop"}
    return Loaders(
        TensorLoader(*data(43, 0), batch_size=8, **options),  # type: ignore[arg-type]
        TensorLoader(*data(20, 1), batch_size=20),
        TensorLoader(*data(20, 2), batch_size=20),
    )


def losses(history: History) -> list[float]:
    return [value for c in history.checks for value in (c.train_loss, c.val_loss or 0.0)]


def fit_parts(model: TransferClassifier, kept: int, checkpoint: Path | None = None) -> History:
    frozen, trainable = split_frozen(model)
    features = feature_loaders(
        frozen, loaders(), memory_limit_bytes=kept * ROW_BYTES, device="cpu", progress=False
    )
    return fit(trainable, features, RECIPE, device="cpu", checkpoint=checkpoint, progress=False)


@pytest.mark.parametrize("kept", [0, 30, 1000])
def test_fitting_on_features_is_fitting_the_model(kept: int) -> None:
    whole, parts = build(), build()
    history = fit(whole, loaders(), RECIPE, device="cpu", progress=False)
    found = fit_parts(parts, kept)
    assert losses(found) == pytest.approx(losses(history), rel=1e-3)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=1e-3, atol=1e-4)
    first = build().state_dict()
    assert torch.equal(
        parts.state_dict()["network.1.running_mean"], first["network.1.running_mean"]
    )
    assert torch.equal(parts.state_dict()["network.0.weight"], first["network.0.weight"])
    assert not torch.equal(parts.state_dict()["network.3.weight"], first["network.3.weight"])


class Stop(Exception):  # noqa: N818
    """Ends a run in its middle, as a crash would."""


class Crash(Callback):
    def on_check(self, check: Check) -> None:
        if check.epoch > 1:
            raise Stop


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, resumed = build(), build()
    history = fit_parts(whole, 30)
    frozen, trainable = split_frozen(resumed)
    features = feature_loaders(
        frozen, loaders(), memory_limit_bytes=30 * ROW_BYTES, device="cpu", progress=False
    )
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        fit(
            trainable,
            features,
            RECIPE,
            device="cpu",
            checkpoint=path,
            progress=False,
            callbacks=(Crash(),),
        )
    again = build()
    found = fit_parts(again, 30, checkpoint=path)
    assert losses(found) == losses(history)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_train_takes_a_card_of_a_transfer_model() -> None:
    card = ModelCard(
        name="own", family="test", summary="", builder=build, recipe=RECIPE, paper="none"
    )
    card = replace(card, recipe=replace(RECIPE, epochs=12, lr=3e-3))
    run = train(card, data=loaders(), device="cpu", progress=False)
    assert run.test is not None
    assert run.test.interval[0] > 0.1  # the classes differ in brightness: better than guessing
    whole = evaluate(copy.deepcopy(run.model), loaders().test or [], device="cpu")
    assert whole.accuracy == run.test.accuracy
    assert run.train is not None
    assert run.train.n == 43
