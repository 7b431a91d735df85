"""Public names, their documentation and their signatures."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import cifarzoo as zoo

MODULES = ("arithmetic", "errors", "viz")
PUBLIC = [name for name in zoo.__all__ if name not in MODULES]
FUNCTIONS = [name for name in PUBLIC if inspect.isfunction(getattr(zoo, name))]


def test_public_names_are_few_and_importable() -> None:
    assert len(zoo.__all__) == len(set(zoo.__all__)) <= 45
    assert set(zoo.__all__) <= set(dir(zoo))
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = zoo.no_such_name  # type: ignore[attr-defined]


def test_package_is_typed() -> None:
    assert (Path(zoo.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name: str) -> None:
    value = getattr(zoo, name)
    doc = inspect.getdoc(value) or ""
    first = doc.partition("\n\n")[0]
    assert first.endswith(".")
    if inspect.isfunction(value):
        described = doc.partition("Args:")[2]
        for parameter in inspect.signature(value).parameters:
            assert f"\n    {parameter}: " in f"\n{described}", parameter


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keyword_only(name: str) -> None:
    """At most three positional parameters, none of them boolean, and no `**kwargs`."""
    parameters = inspect.signature(getattr(zoo, name)).parameters.values()
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 3
    assert not [each for each in positional if isinstance(each.default, bool)]
    assert not [each for each in parameters if each.kind is each.VAR_KEYWORD]


def test_defaults_match_the_documentation() -> None:
    def defaults(function: object) -> dict[str, object]:
        parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
        return {name: each.default for name, each in parameters.items()}

    assert defaults(zoo.evaluate)["precision"] == "float32"
    assert defaults(zoo.predict)["precision"] == "float32"
    assert defaults(zoo.fit)["precision"] == "auto"
    assert defaults(zoo.TensorLoader)["shuffle"] is False
    assert defaults(zoo.build_model)["weights"] is None
