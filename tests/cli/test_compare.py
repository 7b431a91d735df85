"""`cifarzoo compare` prints what `cifarzoo.compare` returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import cifarzoo as zoo
from cifarzoo.run import load_runs

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def runs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two methods with three seeds each, whose accuracies are made up."""
    folder, run = tmp_path_factory.mktemp("methods"), zoo.Run.load(trained)
    assert run.test is not None
    for method, accuracies in (("a", (0.791, 0.808, 0.806)), ("b", (0.775, 0.767, 0.760))):
        for seed, accuracy in enumerate(accuracies):
            test = zoo.Evaluation(**{**vars(run.test), "accuracy": accuracy})
            run.replace(seed=seed, test=test).save(folder / method / f"seed{seed}")
    return folder


@pytest.mark.parametrize("option", [(), ("--paired",), ("--independent",)])
def test_methods_are_compared_over_their_seeds(
    call: Call, runs: Path, option: tuple[str, ...]
) -> None:
    design = option[0].removeprefix("--") if option else "auto"
    expected = zoo.compare(load_runs(runs / "a"), load_runs(runs / "b"), design=design)  # type: ignore[arg-type]
    found = json.loads(call("compare", runs / "a", runs / "b", *option, "--json").stdout)
    assert found["comparison"]["p_value"] == expected.p_value
    assert found["comparison"]["test"] == expected.test
    assert found["verdict"] == expected.verdict
    shown = call("compare", runs / "a", runs / "b", *option).stdout
    assert shown.startswith(f"a: {runs / 'a'}\nb: {runs / 'b'}\n")
    assert "+3.43 points" in shown
    assert expected.test in shown


def test_models_are_compared_image_by_image(call: Call, trained: Path) -> None:
    weights = trained / "weights.safetensors"
    sides = (f"report_baseline:{weights}", "tiny_s:standard")
    found = json.loads(
        call("compare", *sides, "--data", "shapes", "--limit", "100", "--json").stdout
    )["comparison"]
    assert found["test"] == "exact McNemar test"
    assert found["n"] == [100, 100]
    test = zoo.Run.load(trained).test
    assert test is not None
    assert found["accuracy_a"] == pytest.approx(test.accuracy)


def test_what_cannot_be_compared_is_refused(call: Call, runs: Path, trained: Path) -> None:
    weights = trained / "weights.safetensors"
    for sides, message in (
        ((runs / "a", "tiny_s"), "two models"),
        ((f"report_baseline:{weights}", "tiny_s"), "--data"),
        (("tiny_s", "tiny_m", "--paired"), "--paired"),
        (("tiny_s", "nope"), "unknown model"),
    ):
        assert message in call("compare", *sides, code=2).stderr
    other = zoo.Run.load(trained).replace(limit=50)
    other.save(runs / "other")
    assert "--limit 50" in call("compare", runs / "a", runs / "other", code=2).stderr
