from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch

from cifarzoo import ImageClassifier, build_model, list_models, model_card
from cifarzoo.errors import InvalidValueError
from cifarzoo.registry import card_without_weights

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
