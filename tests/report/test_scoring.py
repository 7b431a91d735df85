"""Scores that go on where they were interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cifarzoo import EmptyLoaderError, ImageClassifier, evaluate
from cifarzoo.evaluation import predict
from cifarzoo.report import scoring
from cifarzoo.report.record import Scores
from cifarzoo.report.scoring import evaluate_in_parts


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    images = torch.randint(256, (3, 5, 3, 32, 32), dtype=torch.uint8)
    return [(each, torch.arange(5)) for each in images]


def figures(
    model: ImageClassifier, data: list[tuple[Tensor, Tensor]], path: Path, of: str
) -> Scores:
    return Scores.of(evaluate_in_parts(model, data, path, of=of, device="cpu"), confusion="keep")


def test_it_says_what_evaluate_says_and_computes_each_batch_once(
    make_model: Callable[..., ImageClassifier],
    batches: list[tuple[Tensor, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, path = make_model(seed=1), tmp_path / "new" / "logits"
    usual = Scores.of(evaluate(model, batches, device="cpu", precision="float32"), confusion="keep")
    assert figures(model, batches[:2], path, "a").n == 10
    computed: list[int] = []
    score = predict.scored

    def noted(*arguments: object, **options: object) -> object:
        computed.append(1)
        return score(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "scored", noted)
    assert figures(model, batches, path, "a") == usual
    assert len(computed) == 1
    assert figures(model, batches, path, "a") == usual
    assert figures(model, batches[:1], path, "a").n == 5
    assert len(computed) == 1


@pytest.mark.parametrize("how", ["others", "cut", "nonsense", "batches of another size"])
def test_what_is_kept_of_something_else_or_damaged_is_not_used(
    make_model: Callable[..., ImageClassifier],
    batches: list[tuple[Tensor, Tensor]],
    tmp_path: Path,
    how: str,
) -> None:
    model, path = make_model(seed=1), tmp_path / "logits"
    wanted = figures(model, batches, tmp_path / "elsewhere", "a")
    other = make_model(seed=2)
    figures(other, batches, path, "b")
    if how == "cut":
        figures(model, batches, path, "a")
        path.write_bytes(path.read_bytes()[:-7])
    elif how == "nonsense":
        path.write_bytes(b"nonsense")
    elif how != "others":
        figures(other, [(images[:4], labels[:4]) for images, labels in batches], path, "a")
    assert figures(model, batches, path, "a") == wanted


def test_a_killed_process_loses_half_a_minute_at_most(
    make_model: Callable[..., ImageClassifier],
    batches: list[tuple[Tensor, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, found = tmp_path / "logits", []

    def watched() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            found.append(len(scoring._read(path, "a")))
            yield batch

    monkeypatch.setattr(scoring, "KEEP_SECONDS", 0)
    evaluate_in_parts(make_model(seed=1), watched(), path, of="a", device="cpu")
    assert found == [0, 1, 2]


def test_no_batch_is_told(make_model: Callable[..., ImageClassifier], tmp_path: Path) -> None:
    with pytest.raises(EmptyLoaderError, match="the loader gave no batch"):
        evaluate_in_parts(make_model(seed=1), [], tmp_path / "logits", of="a", device="cpu")
    assert not (tmp_path / "logits").exists()
