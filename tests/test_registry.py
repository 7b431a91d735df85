from __future__ import annotations

import warnings
from dataclasses import replace
from typing import get_args

import pytest
import torch

from cifarzoo import (
    ImageClassifier,
    ModelName,
    OptionError,
    UnknownModelError,
    WeightsError,
    build_model,
    list_models,
    model_card,
)
from cifarzoo.registry import outline


def test_names_for_editors_are_the_cards() -> None:
    assert sorted(get_args(ModelName)) == sorted(list_models())


def test_reports_models_are_there() -> None:
    expected = ("report_baseline", "report_model1", "report_model2", "report_best")
    assert list_models(family="report") == expected
    assert set(list_models()) >= {*expected, "resnet18_transfer"}


def test_list_is_narrowed_by_family_and_size() -> None:
    assert list_models(family="transfer") == ("resnet18_transfer",)
    assert "report_baseline" in list_models(max_params=390_410)
    assert "report_baseline" not in list_models(max_params=390_409)
    assert list_models(family="transfer", max_params=11_181_642) == ("resnet18_transfer",)
    assert list_models(family="transfer", max_params=11_181_641) == ()
    assert list_models(max_params=0) == ()


def test_unknown_family_gets_the_closest_one() -> None:
    with pytest.raises(OptionError, match="unknown family 'reports'; did you mean 'report'"):
        list_models(family="reports")


def test_negative_size_is_refused() -> None:
    with pytest.raises(OptionError, match="max_params is -1"):
        list_models(max_params=-1)


@pytest.mark.parametrize("call", [model_card, build_model])
def test_unknown_model_gets_the_closest_one_and_where_to_look(call: object) -> None:
    assert callable(call)
    with pytest.raises(UnknownModelError) as caught:
        call("report_basline")
    message = str(caught.value)
    assert message.startswith("unknown model 'report_basline'; did you mean 'report_baseline'?")
    assert "list_models()" in message
    assert "cifarzoo list" in message
    assert "report_model2" in message
    with pytest.raises(KeyError):
        call("")


def test_card_is_what_is_known_of_the_model() -> None:
    card = model_card("report_model1")
    assert (card.name, card.family, card.recipe.batch_size) == ("report_model1", "report", 32)
    assert model_card("resnet18_transfer").initial_weights == "imagenet"


def test_model_is_built_ready_for_use() -> None:
    model = build_model("report_baseline", num_classes=3)
    assert isinstance(model, ImageClassifier)
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("num_classes", [0, -1])
def test_model_of_no_class_is_refused(num_classes: int) -> None:
    with pytest.raises(
        OptionError, match=f"num_classes is {num_classes}; allowed: whole numbers, 1 or more"
    ):
        build_model("report_baseline", num_classes=num_classes)


def test_weights_that_are_not_there_are_refused() -> None:
    with pytest.raises(WeightsError):
        build_model("report_baseline", weights="no_such_tag")


def test_random_weights_follow_torchs_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_model("report_baseline").parameters()).detach()

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(first(1), first(1))
        assert not torch.equal(first(1), first(2))


def test_listing_builds_no_weights_and_draws_no_numbers() -> None:
    before = torch.get_rng_state()
    list_models(max_params=10**9)
    assert torch.equal(before, torch.get_rng_state())


def test_name_in_the_wrong_case_is_not_guessed() -> None:
    with pytest.raises(UnknownModelError):
        build_model("Report_Baseline")


def test_outline_of_a_builder_that_loads_weights_is_quiet() -> None:
    def builder(num_classes: int) -> ImageClassifier:
        model = model_card("report_baseline").builder(num_classes)
        loaded = model.state_dict()
        model.load_state_dict({k: torch.zeros(v.shape, device="cpu") for k, v in loaded.items()})
        return model

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = outline(replace(model_card("report_baseline"), builder=builder))
    assert all(tensor.is_meta for tensor in model.parameters())
