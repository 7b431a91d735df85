"""The public names: those of the design, with those parameters, and documented."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import cifarzoo
from cifarzoo import _HOMES, Recipe

DESIGNED = """
def build_model(name, *, weights=None, num_classes=10): ...
def list_models(*, family=None, max_params=None): ...
def model_card(name): ...
def cifar10_loaders(batch_size=64, *, root=None, val_fraction=0.1, augmentation=None, seed=0,
                    device="cpu", download=True): ...
def fit(model, loaders, recipe=Recipe(), *, device="auto", precision="auto", seed=0, teacher=None,
        proxy=None, checkpoint=None, progress=True, callbacks=()): ...
def evaluate(model, data, *, device="auto", precision="auto", tta="none"): ...
def conv_output_size(size, kernel_size, *, stride=1, padding=0, dilation=1): ...
def same_padding(kernel_size): ...
def kernel_size_for(size_in, size_out, *, stride=1, padding=0): ...
def convolve2d(image, kernel, *, boundary="zero"): ...
def count_params(model, *, which="all"): ...
def layer_table(model, input_size=(3, 32, 32)): ...
def Augmentation(*, flip="none", translate=0, cutout=0, padding="zero", rand_augment=0,
                 magnitude=9): ...
def Loaders(train, val=None, test=None): ...
def train(name, *, data="cifar10", root=None, recipe=None, weights=None, num_classes=10, seed=0,
          device="auto", precision="auto", tta="none", checkpoint=None, progress=True, callbacks=(),
          download=True, memory_limit_bytes=4 * 2**30): ...
"""
FIELDS = {
    "Evaluation": "loss accuracy interval per_class confusion calibration_error n tta",
    "LayerCost": "name kind output_shape params macs receptive_field",
    "Loaders": "train val test",
    "ModelCard": "name builder recipe weights paper",
    "Recipe": "epochs optimizer schedule augmentation early_stopping",
    "Weights": "tag sha256 size_bytes accuracy interval mean std seeds seed recipe seconds machine",
}
VIZ = (
    "plot_history plot_histories plot_filters plot_activations plot_filter_responses "
    "plot_confusion plot_predictions plot_images"
)
INIT = Path(cifarzoo.__file__)


def _designed() -> dict[str, FunctionType]:
    namespace: dict[str, object] = {"Recipe": Recipe}
    exec(DESIGNED, namespace)
    return {name: value for name, value in namespace.items() if isinstance(value, FunctionType)}


def _parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    parameters = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


@pytest.mark.parametrize(("name", "designed"), _designed().items())
def test_signature_is_the_designs(name: str, designed: FunctionType) -> None:
    assert _parameters(getattr(cifarzoo, name)) == _parameters(designed)


def test_shapes_loaders_begin_like_cifar10s() -> None:
    ours = inspect.signature(cifarzoo.shapes_loaders).parameters
    model = inspect.signature(cifarzoo.cifar10_loaders).parameters
    assert next(iter(ours)) == "batch_size"
    shared = [name for name in model if name not in ("root", "download")]
    assert [(ours[n].kind, ours[n].default) for n in shared] == [
        (model[n].kind, model[n].default) for n in shared
    ]


@pytest.mark.parametrize(("name", "fields"), FIELDS.items())
def test_class_has_the_designs_fields(name: str, fields: str) -> None:
    assert set(fields.split()) <= set(getattr(cifarzoo, name).__dataclass_fields__)


@pytest.mark.parametrize("name", VIZ.split())
def test_picture_of_the_design_is_there(name: str) -> None:
    function = getattr(cifarzoo.viz, name)
    assert inspect.signature(function).return_annotation == "Figure"
    assert function.__doc__


@pytest.mark.parametrize("name", sorted(set(cifarzoo.__all__) - {"__version__", "viz"}))
def test_public_name_is_there_documented_and_typed(name: str) -> None:
    value = getattr(cifarzoo, name)
    assert getattr(cifarzoo, name) is value
    if name == "ModelName":
        return
    assert inspect.getdoc(value)
    assert value.__name__ == name
    if inspect.isfunction(value):
        assert set(inspect.get_annotations(value)) == {
            *inspect.signature(value).parameters,
            "return",
        }


@pytest.mark.parametrize("name", sorted(set(cifarzoo.__all__) - {"__version__", "viz"}))
def test_every_public_method_is_documented(name: str) -> None:
    value = getattr(cifarzoo, name)
    if not inspect.isclass(value):
        return
    undocumented = [
        attribute
        for attribute, member in vars(value).items()
        if not attribute.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property))
        and not inspect.getdoc(member)
    ]
    assert not undocumented


def _imported_for_type_checkers() -> dict[str, tuple[str, ...]]:
    tree = ast.parse(INIT.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {
        (node.module or "").removeprefix("cifarzoo."): tuple(alias.name for alias in node.names)
        for node in imports
        if node.module != "cifarzoo"
    }


def test_three_lists_of_names_agree() -> None:
    assert _imported_for_type_checkers() == _HOMES
    names = [name for names in _HOMES.values() for name in names]
    assert len(names) == len(set(names))
    assert sorted(cifarzoo.__all__) == sorted({*names, "viz", "__version__"})
    assert dir(cifarzoo) == sorted(cifarzoo.__all__)


@pytest.mark.parametrize(("home", "names"), _HOMES.items())
def test_home_exports_its_names(home: str, names: tuple[str, ...]) -> None:
    module = importlib.import_module(f"cifarzoo.{home}")
    for name in names:
        assert name in module.__all__
        assert getattr(module, name) is getattr(cifarzoo, name)


def test_every_error_is_public() -> None:
    public = {name for name in cifarzoo.__all__ if name.endswith("Error")}
    assert public == {name for name in cifarzoo.errors.__all__ if name.endswith("Error")}


def test_no_room_hides_a_public_function() -> None:
    """After all rooms are imported, `cifarzoo.train` and the like are still the functions."""
    importlib.import_module("cifarzoo.run")
    importlib.import_module("cifarzoo.viz")
    modules = [n for n in cifarzoo.__all__ if isinstance(getattr(cifarzoo, n), ModuleType)]
    assert modules == ["viz"]


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        cifarzoo.trane  # noqa: B018


def test_package_says_that_it_is_typed() -> None:
    assert (INIT.parent / "py.typed").is_file()
