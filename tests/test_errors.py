from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo import CifarZooError, History, errors

CHILDREN = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, CifarZooError) and value is not CifarZooError
]
HISTORY = History(checks=(), best_step=0, stopped="diverged", steps=3, images=24, seconds=0.1)


@pytest.mark.parametrize("kind", CHILDREN)
def test_error_is_also_a_builtin_and_can_be_pickled(kind: type[CifarZooError]) -> None:
    ours, builtin = kind.__bases__
    assert ours is CifarZooError
    assert builtin.__module__ == "builtins"
    has_more = kind in (errors.NonFiniteLossError, errors.ScoreError)
    made = kind("what", HISTORY) if has_more else kind("what")
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is kind
    assert str(again) == "what"
    assert getattr(again, "history", HISTORY) == HISTORY


@given(st.text(), st.lists(st.text(min_size=1), unique=True))
def test_unknown_names_the_value_and_all_options(value: str, options: list[str]) -> None:
    message = str(errors.unknown("flip", value, options))
    assert repr(value) in message
    assert all(option in message for option in options)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("resent20", "did you mean 'resnet20'?"),
        ("RESNET20", "did you mean 'resnet20'?"),
        ("zzz", ""),
    ],
)
def test_suggestion_is_the_closest_name_or_nothing(value: str, hint: str) -> None:
    found = errors.suggest(value, ["vgg11", "resnet20"])
    assert found.endswith(hint)
    assert bool(found) == bool(hint)
