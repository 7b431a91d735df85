from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

import cifarzoo as zoo


@pytest.mark.parametrize("difference", [0.0, 2e-4, 3e-4])
def test_wrong_accuracy_on_a_card_is_an_error(
    load_script: Callable[[str], ModuleType],
    loaders: zoo.Loaders,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    difference: float,
) -> None:
    tool = load_script("tools/check_weights.py")
    (weights,) = zoo.model_card("tiny_s").weights
    score = weights.run.test
    assert score is not None
    found = replace(score, accuracy=score.accuracy - difference)
    monkeypatch.setattr(zoo, "cifar10_loaders", lambda: SimpleNamespace(test=loaders.test))
    monkeypatch.setattr(zoo, "evaluate", lambda _model, _data: found)
    if difference > tool.TOLERANCE:
        with pytest.raises(SystemExit, match="tiny_s standard"):
            tool.main(["tiny_s"])
    else:
        tool.main(["tiny_s"])
    assert "tiny_s standard: expected 87.71%" in capsys.readouterr().out
