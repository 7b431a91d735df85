from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from cifarzoo import Evaluation, ImageClassifier, Layout
from cifarzoo.report.record import Failure, Scores, fingerprint_of


def test_scores_keep_every_figure_and_no_nan() -> None:
    evaluation = Evaluation(
        loss=1.5,
        accuracy=0.5,
        interval=(0.2, 0.8),
        per_class=(0.5, math.nan),
        confusion=torch.tensor([[1, 1], [0, 0]]),
        calibration_error=0.1,
        n=2,
        tta="none",
    )
    kept = Scores.of(evaluation, confusion="keep")
    assert (kept.loss, kept.accuracy, kept.interval, kept.n) == (1.5, 0.5, (0.2, 0.8), 2)
    assert kept.per_class == (0.5, None)
    assert kept.confusion == ((1, 1), (0, 0))
    assert Scores.of(evaluation, confusion="drop").confusion is None
    assert kept.tta == "none"
    assert Scores.of(replace(evaluation, tta="flip"), confusion="drop").tta == "flip"


def test_fingerprint_is_of_shapes_not_of_weights(
    make_model: Callable[..., ImageClassifier],
) -> None:
    assert fingerprint_of(make_model(seed=0)) == fingerprint_of(make_model(seed=1))
    assert fingerprint_of(make_model()) != fingerprint_of(make_model(Layout(filters=(4, 9))))


def test_failure_leaves_the_home_folder_out() -> None:
    failure = Failure.of("best", 1, OSError(f"no {Path.home() / 'weights.pth'}"))
    assert failure.error == f"no {Path('~') / 'weights.pth'}"
    assert (failure.key, failure.seed) == ("best", 1)
    assert failure.date.endswith("+00:00")
