from __future__ import annotations

import doctest
import inspect
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo import CifarZooError, History, NonFiniteLossError, UnknownModelError, errors

CHILDREN = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, CifarZooError) and value is not CifarZooError
]
BUILTINS = {
    "CheckpointError": RuntimeError,
    "DataCorruptError": ValueError,
    "DataNotFoundError": FileNotFoundError,
    "DownloadError": OSError,
    "EmptyLoaderError": ValueError,
    "LabelError": ValueError,
    "MissingExtraError": ImportError,
    "NonFiniteLossError": ArithmeticError,
    "OptionError": ValueError,
    "RangeError": ValueError,
    "ShapeError": ValueError,
    "UnknownModelError": KeyError,
    "WeightsError": ValueError,
}
HISTORY = History(checks=(), best_step=0, stopped="diverged", steps=3, images=24, seconds=0.1)


def _made(kind: type[CifarZooError]) -> CifarZooError:
    return kind("what", HISTORY) if kind is NonFiniteLossError else kind("what")


def test_error_derives_from_the_builtin_that_its_users_know() -> None:
    assert {child.__name__ for child in CHILDREN} >= set(BUILTINS)
    for child in CHILDREN:
        assert child.__bases__[0] is CifarZooError
        assert child.__bases__[1] is BUILTINS.get(child.__name__, child.__bases__[1])


@pytest.mark.parametrize("child", CHILDREN)
def test_error_is_caught_as_ours_and_as_the_builtin(child: type[CifarZooError]) -> None:
    assert child.__bases__[1].__module__ == "builtins"
    for kind in child.__bases__:
        with pytest.raises(kind, match=r"^what$"):  # KeyError alone would show quotes
            raise _made(child)


@pytest.mark.parametrize("child", CHILDREN)
def test_error_crosses_a_process_boundary(child: type[CifarZooError]) -> None:
    error = pickle.loads(pickle.dumps(_made(child)))
    assert type(error) is child
    assert str(error) == "what"
    if isinstance(error, NonFiniteLossError):
        assert error.history == HISTORY


@pytest.mark.parametrize("child", CHILDREN)
def test_error_says_in_one_line_when_it_is_raised(child: type[CifarZooError]) -> None:
    assert (child.__doc__ or "").strip()


def test_unknown_model_shows_its_message_without_quotes() -> None:
    assert str(UnknownModelError("it's 'x'")) == "it's 'x'"


def test_examples_in_the_docstrings_hold() -> None:
    failed, tried = doctest.testmod(errors)
    assert failed == 0
    assert tried >= 2


def test_suggestion_is_the_closest_name_or_nothing() -> None:
    assert errors.suggest("resent20", ["vgg11", "resnet20"]) == "; did you mean 'resnet20'?"
    assert errors.suggest("zzz", ["vgg11", "resnet20"]) == ""
    assert errors.suggest("a", []) == ""


@given(st.text(), st.lists(st.text(min_size=1), unique=True))
def test_any_text_gets_a_message_that_names_it_and_all_that_is_allowed(
    value: str, allowed: list[str]
) -> None:
    message = str(errors.one_of("flip", value, allowed))
    assert repr(value) in message
    assert all(name in message for name in allowed)


def test_value_that_is_no_text_gets_a_message_too() -> None:
    assert str(errors.one_of("flip", None, ["a", "b"])) == "unknown flip None; allowed: a, b"
    assert "tensor" in str(errors.one_of("flip", torch.zeros(1), ["a"]))


@pytest.mark.parametrize(("value", "name"), [("DEFAULT", "default"), ("lng", "long")])
def test_what_was_meant_is_suggested_whatever_its_case(value: str, name: str) -> None:
    assert errors.suggest(value, ["default", "long"]) == f"; did you mean {name!r}?"
    assert errors.suggest(name, [name.upper()]) == f"; did you mean {name.upper()!r}?"
