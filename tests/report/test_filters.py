from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cifarzoo import ImageClassifier, WeightsError, build_model
from cifarzoo.report import filters
from cifarzoo.report.filters import FILTER_FILES, draw_filters, filters_drawn
from cifarzoo.report.folder import load_results


def test_pictures_are_drawn_from_the_weights_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def build(name: str, *, weights: object) -> ImageClassifier:
        asked.append(weights)
        return build_model("resnet18_transfer")

    monkeypatch.setattr(filters, "build_model", build)
    assert not filters_drawn(tmp_path, None)
    assert draw_filters(tmp_path, None) is None
    assert asked == ["imagenet"]
    assert filters_drawn(tmp_path, None)
    assert filters_drawn(tmp_path, "imagenet")
    assert not filters_drawn(tmp_path, "other.pth")
    for name in FILTER_FILES:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_missing_weights_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str, *, weights: object) -> ImageClassifier:
        raise WeightsError("no weights")

    monkeypatch.setattr(filters, "build_model", build)
    failure = draw_filters(tmp_path, "somewhere.pth")
    assert failure is not None
    assert failure.error == "no weights"
    assert load_results(tmp_path).failure_of("filters") == failure
    assert not filters_drawn(tmp_path, None)


def test_another_file_of_the_same_name_is_drawn_anew(tmp_path: Path) -> None:
    weights, folder = tmp_path / "resnet18.pth", tmp_path / "results"
    for _ in range(2):
        torch.save(build_model("resnet18_transfer").network.state_dict(), weights)
        assert not filters_drawn(folder, weights)
        assert draw_filters(folder, weights) is None
        assert filters_drawn(folder, weights)
    (folder / "task4c.png").write_bytes(b"not a picture")
    assert not filters_drawn(folder, weights)
