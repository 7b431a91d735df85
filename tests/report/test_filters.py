from __future__ import annotations

from pathlib import Path

import pytest

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
    assert not filters_drawn(tmp_path)
    assert draw_filters(tmp_path, None) is None
    assert asked == ["imagenet"]
    assert filters_drawn(tmp_path)
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
    assert not filters_drawn(tmp_path)
