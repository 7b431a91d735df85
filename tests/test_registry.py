from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifarzoo import (
    ImageClassifier,
    ModelCard,
    Run,
    build_model,
    list_models,
    model_card,
    register,
    train,
)
from cifarzoo.errors import InvalidTypeError, InvalidValueError, WeightsError
from cifarzoo.models.report import report_model
from cifarzoo.registry import card_without_weights
from cifarzoo.weights import load_state

REPORT = ["report_baseline", "report_best", "report_model1", "report_model2"]


def test_list_is_sorted_and_complete() -> None:
    names = list_models()
    assert names == sorted(names)
    assert {*REPORT, "resnet20", "resnet18_transfer", "sprint_m", "tiny_s"} <= {*names}


def test_list_is_filtered_by_pattern_family_and_size() -> None:
    assert list_models("report_*") == list_models(family="report") == REPORT
    assert list_models("resnet??") == ["resnet20", "resnet32", "resnet56"]
    assert list_models("resnet*", family="transfer") == ["resnet18_transfer"]
    assert list_models("RESNET*") == []
    assert "report_baseline" in list_models(max_params=390_410)
    assert "report_baseline" not in list_models(max_params=390_409)
    assert list_models(max_params=0) == []


def test_invalid_filters_are_rejected() -> None:
    with pytest.raises(InvalidValueError, match=r"family 'reports'.* did you mean 'report'"):
        list_models(family="reports")
    with pytest.raises(InvalidValueError, match="max_params is -1"):
        list_models(max_params=-1)


@pytest.mark.parametrize("call", [model_card, build_model, card_without_weights])
@pytest.mark.parametrize("name", ["report_basline", "Report_Baseline"])
def test_unknown_name_is_rejected_with_the_closest(
    call: Callable[[str], object], name: str
) -> None:
    with pytest.raises(InvalidValueError, match=f"model '{name}'.*did you mean 'report_baseline'"):
        call(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet18", "'preact_resnet18' or 'resnet18_transfer'"),
        ("ResNet50", "'resnet20' or 'resnet56'"),
        ("resnet-20", "'resnet20'"),
        ("wrn-16-4", "'wrn_16_4'"),
        ("densenet", "'densenet40_k12_bc'"),
        ("mobilenetv2", "'mobilenet_v2'"),
        ("vgg16", "'vgg16_bn'"),
        ("vgg", "'vgg11_bn' or 'vgg16_bn'"),
    ],
)
def test_names_of_other_libraries_are_recognised(name: str, meant: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        build_model(name)
    assert str(caught.value).endswith(f"; did you mean {meant}?")


def test_a_former_name_builds_the_same_model() -> None:
    with pytest.warns(FutureWarning, match="densenet40_k12 was renamed to densenet40_k12_bc"):
        former = build_model("densenet40_k12", weights="default")
    today = build_model("densenet40_k12_bc", weights="default")
    torch.testing.assert_close(former.state_dict(), today.state_dict(), rtol=0, atol=0)
    assert list_models("densenet*") == ["densenet40_k12_bc"]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Card of an own model; what is registered is forgotten after the test."""
    monkeypatch.setattr("cifarzoo.registry._registered", {})
    builder = functools.partial(report_model, filters=(4,), hidden=())
    return replace(card_without_weights("report_baseline"), name="own", builder=builder)


def test_registered_model_is_known_everywhere(card: ModelCard, tmp_path: Path) -> None:
    register(card)
    assert model_card("own") == card
    assert "own" in list_models(max_params=11_000)
    assert list_models("ow*", family="report") == ["own"]
    recipe = replace(card.recipe, epochs=1)
    run = train("own", data="shapes", recipe=recipe, limit=128, device="cpu", progress=False)
    run.save(tmp_path)
    images = torch.rand(2, 3, 32, 32)
    loaded = Run.load(tmp_path).model
    assert torch.equal(loaded(images), run.model(images))
    path = tmp_path / "weights.safetensors"
    assert torch.equal(build_model("own", weights=path)(images), run.model(images))
    register(replace(card, builder=report_model))
    assert "own" not in list_models(max_params=11_000)
    with pytest.raises(WeightsError, match="none in the package"):
        build_model("own", weights="default")


@pytest.mark.parametrize("name", ["resnet20", "densenet40_k12"])
def test_names_of_the_zoo_cannot_be_registered(card: ModelCard, name: str) -> None:
    with pytest.raises(InvalidValueError, match=f"'{name}': expected a name not in the zoo"):
        register(replace(card, name=name))
    with pytest.raises(InvalidTypeError, match="card is a function"):
        register(report_model)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [None, "default"])
@pytest.mark.parametrize("name", ["report_baseline", "sprint_s"])
def test_models_built_in_inference_mode_can_be_trained(name: str, weights: str | None) -> None:
    with torch.inference_mode():
        model = build_model(name, weights=weights)
        load_state(model, build_model(name).state_dict(), source="another model")
    assert not any(tensor.is_inference() for tensor in model.state_dict().values())
    model.train()(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_family_is_the_module_that_defines_the_card() -> None:
    for name in list_models():
        card = card_without_weights(name)
        assert card in importlib.import_module(f"cifarzoo.models.{card.family}").CARDS


def test_model_is_built_for_evaluation() -> None:
    model = build_model("report_baseline", num_classes=3)
    assert isinstance(model, ImageClassifier)
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    with pytest.raises(InvalidValueError, match="num_classes is 0"):
        build_model("report_baseline", num_classes=0)


def test_random_weights_are_determined_by_the_seed_of_torch() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_model("report_baseline").parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
