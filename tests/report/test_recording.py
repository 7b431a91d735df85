"""What is recorded, and from where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cifarzoo import Distillation, OptionError, ResultsError, model_card
from cifarzoo.report import recording as module
from cifarzoo.report.provenance import Source
from cifarzoo.report.recording import Recording, require_checkout

CARD = model_card("report_baseline")


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(
        card=CARD, tag="default", seeds=(0,), work=tmp_path / "work", results=tmp_path / "results"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "../x"}, "tag is '../x'"),
        ({"seeds": ()}, "seeds is ()"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (-1,)}, "seeds is -1"),
        ({"tta": "flip"}, "tta is 'flip'"),
    ],
)
def test_bad_recordings_are_refused(
    recording: Recording, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        replace(recording, **changes)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("commit", "dirty", "message"),
    [
        (None, None, "from a git checkout"),
        ("c0ffee" * 6 + "beef", True, "differs from commit c0ffeec0ff"),
        ("c0ffee" * 6 + "beef", None, "differs from commit"),
        ("c0ffee" * 6 + "beef", False, "cannot be written"),
    ],
)
def test_only_a_clean_checkout_records(
    monkeypatch: pytest.MonkeyPatch, commit: str | None, dirty: bool | None, message: str
) -> None:
    source = Source(commit=commit, dirty=dirty, versions={})
    monkeypatch.setattr(module, "this_source", lambda: source)
    monkeypatch.setattr(module, "packaged_folder", lambda: Path("/not/there"))
    with pytest.raises(ResultsError, match=message):
        require_checkout(CARD)


@pytest.mark.parametrize("committed", [True, False])
def test_weights_that_are_learnt_from_are_part_of_the_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, committed: bool
) -> None:
    source = Source(commit="c0ffee" * 7, dirty=False, versions={})
    monkeypatch.setattr(module, "this_source", lambda: source)
    monkeypatch.setattr(module, "packaged_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "is_committed", lambda folder: committed)
    recipe = replace(CARD.recipe, distillation=Distillation(teacher="sprint_l"))
    require_checkout(CARD)
    if committed:
        require_checkout(replace(CARD, recipe=recipe))
        return
    with pytest.raises(ResultsError, match=r"learns from sprint_l, and .* not in commit c0ffee"):
        require_checkout(replace(CARD, recipe=recipe))
