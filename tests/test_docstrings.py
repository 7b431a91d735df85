"""What a public docstring has to say: arguments, shapes, units, errors and source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cifarzoo as zoo

SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples):$", re.MULTILINE)
ENTRY = re.compile(r"^    \*{0,2}(\w+)(?: \([^)]*\))?:", re.MULTILINE)
# (N,K), (3,H,W), (...,C), (N,): more than one word in brackets.
SHAPE = re.compile(r"\((?:[\w.…*]+(?:,\s?[\w.…*+/()-]+)+|[A-Z]\w?),?\)")
NUMBER = re.compile(r"(int|float)( \| None)?")
# What tells the unit, the range or the kind of a number.
UNIT = re.compile(
    r"\b\d|\bseconds?\b|\bpixels?\b|\bimages?\b|\bsteps?\b|\bepochs?\b|\bbatch(es)?\b"
    r"|\bparameters?\b|\bmultiply-accumulates\b|\bbytes?\b|\bclasses\b|\bchannels?\b|\blayers?\b"
    r"|\bnats\b|\bunits?\b|\bshare\b|\bfraction\b|\bprobability\b|\bnumber of\b|\bhow many\b"
)
# Methods of every torch module, described there.
TORCH_S_OWN = {"extra_repr", "train"}
# Helpers that give an error to be raised, and those that raise one.
RAISED_BY = {"one_of": "OptionError", "wrong_kind": "OptionError"}


def _members() -> Iterator[tuple[str, Any]]:
    for owner, names in ((zoo, zoo.__all__), (zoo.viz, zoo.viz.__all__)):
        for name in names:
            value = getattr(owner, name)
            if inspect.ismodule(value) or not callable(value) or isinstance(value, str):
                continue
            if getattr(value, "__module__", "").startswith("cifarzoo"):
                yield name, value


MEMBERS = dict(_members())
FUNCTIONS = {name: value for name, value in MEMBERS.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in MEMBERS.items() if inspect.isclass(value)}
METHODS = {
    f"{name}.{method}": function
    for name, owner in CLASSES.items()
    for method, function in vars(owner).items()
    if inspect.isfunction(function) and not method.startswith("_")
}
PROPERTIES = {
    f"{name}.{each}": value
    for name, owner in CLASSES.items()
    for each, value in vars(owner).items()
    if isinstance(value, property)
}
MADE = {  # classes that are called, with what they take
    name: value
    for name, value in CLASSES.items()
    if "__init__" in vars(value)
    and not dataclasses.is_dataclass(value)
    and not getattr(value, "_is_protocol", False)
}
DATACLASSES = {name: value for name, value in CLASSES.items() if dataclasses.is_dataclass(value)}


def sections(doc: str) -> dict[str, str]:
    """Split a docstring by the names of its sections; what comes first is "about"."""
    parts = SECTION.split(inspect.cleandoc(doc))
    return {"about": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(text: str) -> dict[str, str]:
    """Split a section by what it describes."""
    parts = ENTRY.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def raised(function: Callable[..., object]) -> set[str]:
    """Name the errors that are raised in a function's own lines."""
    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func)
            found.add(RAISED_BY.get(name, name))
    return found


@pytest.mark.parametrize("name", MEMBERS)
def test_is_described_in_a_sentence(name: str) -> None:
    about = sections(MEMBERS[name].__doc__ or "")["about"]
    first = about.partition("\n\n")[0]
    assert len(first) > 20
    assert first.rstrip().endswith((".", "?"))


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_names_its_arguments_results_and_errors(name: str) -> None:
    function = (FUNCTIONS | METHODS)[name]
    found = sections(function.__doc__ or "")
    signature = inspect.signature(function)
    wanted = [each for each in signature.parameters if each != "self"]
    if name.split(".")[-1] not in TORCH_S_OWN:
        assert list(entries(found.get("Args", ""))) == wanted
    gives = str(signature.return_annotation)
    if name in FUNCTIONS and gives != "None":
        assert "Returns" in found or "Yields" in found or gives.startswith("Iterator")
    elif gives != "None" and wanted and "Returns" not in found:
        assert sections(function.__doc__ or "")["about"].startswith(("Give ", "Set ", "Tell "))
    assert raised(function) <= set(entries(found.get("Raises", "")))


@pytest.mark.parametrize("name", MADE)
def test_names_what_it_is_made_from(name: str) -> None:
    owner = MADE[name]
    found = sections(owner.__doc__ or "")
    wanted = [each for each in inspect.signature(owner.__init__).parameters if each != "self"]
    if not issubclass(owner, BaseException):  # those are made here, and caught elsewhere
        assert list(entries(found.get("Args", ""))) == wanted
    assert raised(owner.__init__) <= set(entries(found.get("Raises", "")))


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_are_described(name: str) -> None:
    described = (PROPERTIES[name].__doc__ or "").strip()
    assert described.endswith(".")
    assert len(described) > 15


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gives_shapes_and_units(name: str) -> None:
    function = FUNCTIONS[name]
    found = sections(function.__doc__ or "")
    described = entries(found.get("Args", ""))
    for each, parameter in inspect.signature(function).parameters.items():
        kind = str(parameter.annotation)
        if "Tensor" in kind and "TensorLoader" not in kind:
            assert SHAPE.search(described[each]), f"{each} has no shape"
        if NUMBER.fullmatch(kind):
            assert UNIT.search(described[each]), f"{each} has no unit"
    if re.search(r"\bTensor\b", str(inspect.signature(function).return_annotation)):
        assert SHAPE.search(found["Returns"])


@pytest.mark.parametrize("name", DATACLASSES)
def test_attributes_are_described_with_their_units(name: str) -> None:
    owner = DATACLASSES[name]
    found = sections(owner.__doc__ or "")
    described = entries(found.get("Attributes", found.get("Args", "")))
    for field in dataclasses.fields(owner):
        if field.name.startswith("_"):
            continue
        assert field.name in described
        kind = str(field.type)
        if NUMBER.fullmatch(kind):
            assert UNIT.search(described[field.name]), f"{field.name} has no unit"
        if re.search(r"\bTensor\b", kind):
            assert SHAPE.search(described[field.name]), f"{field.name} has no shape"
    if "__post_init__" in vars(owner):
        assert "Raises" in found


@pytest.mark.parametrize("name", zoo.list_models())
def test_models_name_their_source(name: str) -> None:
    card = zoo.model_card(name)
    assert card.paper
    home = inspect.getmodule(inspect.unwrap(getattr(card.builder, "func", card.builder)))
    said = (home.__doc__ or "") if home else ""
    assert card.paper.partition(",")[0] in said or "Source:" in said


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Augmentation", "arXiv 2404.00498"),
        ("Evaluation", "arXiv 1706.04599"),
        ("accuracy_interval", "Wilson 1927"),
        ("mean_and_std", "Student's t"),
        ("paired_difference", "Student's t"),
        ("plot_grad_cam", "arXiv 1610.02391"),
        ("plot_occlusion", "arXiv 1311.2901"),
        ("plot_receptive_field", "arXiv 1701.04128"),
        ("plot_reliability", "arXiv 1706.04599"),
    ],
)
def test_what_others_found_names_its_source(name: str, source: str) -> None:
    assert source in (MEMBERS[name].__doc__ or "")
