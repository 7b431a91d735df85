"""Whatever maps images to logits gets the same predictions, and is left as it was."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, export
from torch.nn.utils import prune
from typing_extensions import override

from cifarzoo import compare, evaluate, predict
from cifarzoo.evaluation.classifier import Classifier

IMAGES = torch.rand(11, 3, 12, 12)
BATCHES = [(IMAGES[:6], torch.arange(6)), (IMAGES[6:], torch.arange(5))]


class Network(nn.Module):
    """A network with modes, which also refers to its modules outside of `_modules`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(800, 7))
        self.steps: list[Callable[[Tensor], Tensor]] = [
            self.norm,
            functools.partial(self.head.forward),
        ]

    @override
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.conv(images)
        for step in self.steps:
            maps = step(maps)
        return maps


class Freezing(Network):
    """A network with a `train` method of its own."""

    @override
    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.norm.eval()
        return self


def network(kind: type[Network] = Network) -> Network:
    model = kind()
    for _ in range(3):
        model(2 * IMAGES)  # for statistics that are not those of the images
    return model.eval()


def logits_of(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(IMAGES)
    return logits


class Session:
    """A session as ONNX Runtime has them: fixed shape and dtype, and arrays."""

    def __init__(self, model: nn.Module, batch: int | str, dtype: type[np.generic]) -> None:
        self.model, self.dtype = model, dtype
        names = {
            np.float32: "tensor(float)",
            np.float64: "tensor(double)",
            np.uint8: "tensor(uint8)",
        }
        self.input = SimpleNamespace(name="x", shape=[batch, 3, 12, 12], type=names[dtype])

    def get_inputs(self) -> list[SimpleNamespace]:
        return [self.input]

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        assert output_names is None
        (pixels,) = [input_feed["x"]]
        assert pixels.dtype == self.dtype
        assert self.input.shape[0] in ("batch", len(pixels))
        images = torch.from_numpy(pixels)
        images = images / 255 if images.dtype == torch.uint8 else images.float()
        with torch.no_grad():
            return [self.model(images).numpy(), np.zeros(3)]


def _exported(model: nn.Module, batch: int, size: object = None) -> Any:  # noqa: ANN401
    shapes = None if size is None else ({0: size},)
    return export(model, (IMAGES[:batch],), dynamic_shapes=shapes)


def _traced(model: nn.Module) -> Any:  # noqa: ANN401
    return torch.jit.trace(model, IMAGES[:2])  # type: ignore[no-untyped-call]


def _compiled(model: nn.Module) -> Any:  # noqa: ANN401
    return torch.compile(model, backend="eager")


KINDS: dict[str, Callable[[Network], Classifier]] = {
    "function": lambda model: lambda images: model(images),
    "partial": lambda model: functools.partial(torch.func.functional_call, model, {}),
    "method": lambda model: model.forward,
    "arrays": lambda model: lambda images: model(images).numpy(),
    "exported for one": lambda model: _exported(model, 1),
    "exported for four": lambda model: _exported(model, 4),
    "exported for five at most": lambda model: _exported(model, 4, Dim("batch", max=5)),
    "exported for any number": lambda model: _exported(model, 4, Dim("batch")),
    "module of an export": lambda model: _exported(model, 4).module(),
    "wrapped export": lambda model: nn.Sequential(_exported(model, 11).module(), nn.Identity()),
    "scripted": lambda model: torch.jit.script(nn.Sequential(model.conv, model.norm, model.head)),
    "traced": _traced,
    "frozen": lambda model: torch.jit.freeze(_traced(model)),
    "compiled": _compiled,
    "fx": fx.symbolic_trace,
    "session for one": lambda model: Session(model, 1, np.float32),
    "session for four": lambda model: Session(model, 4, np.float64),
    "session for any number": lambda model: Session(model, "batch", np.uint8),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_classifier_has_the_predictions_of_its_network(kind: str) -> None:
    model = network()
    classifier = KINDS[kind](model)
    images = (IMAGES * 255).round() / 255 if kind == "session for any number" else IMAGES
    if kind == "wrapped export":
        found = predict(classifier, IMAGES)
    else:
        batches = [(images[:6], torch.arange(6)), (images[6:], torch.arange(5))]
        found = predict(classifier, batches)
        assert evaluate(classifier, batches).accuracy == evaluate(model, batches).accuracy
        assert compare(classifier, model, data=batches).difference == 0
    with torch.no_grad():
        expected = model(images).softmax(1)
    torch.testing.assert_close(found.probabilities, expected)


def _with_attributes(model: Any) -> nn.Module:  # noqa: ANN401
    """Add attributes that cannot be copied."""
    model.lock, model.maps = threading.Lock(), 2 * next(model.parameters())
    return cast("nn.Module", model)


_prune: Any = prune.l1_unstructured

TRAINING: dict[str, Callable[[], nn.Module]] = {
    "plain": network,
    "own train method": lambda: network(Freezing),
    "fx": lambda: fx.symbolic_trace(network()),
    "compiled": lambda: _compiled(network()),
    "compiled part": lambda: nn.Sequential(_compiled(network())),
    "lock and maps": lambda: _with_attributes(network()),
    "pruned": lambda: nn.Sequential(_prune(nn.Conv2d(3, 4, 12), "weight", 0.5), nn.Flatten()),
    "weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 12)), nn.Flatten()),
    "spectral norm": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 12)), nn.Flatten(), nn.Dropout()
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("kind", TRAINING)
def test_model_in_training_mode_is_evaluated_by_several_threads_and_not_modified(kind: str) -> None:
    model = TRAINING[kind]()
    expected = logits_of(model.eval()).softmax(1)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    done = threading.Event()
    seen = set()

    def watch() -> None:
        while not done.is_set():
            seen.add(tuple(module.training for module in model.modules()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: predict(model, IMAGES, device="cpu"), range(24)))
    done.set()
    watcher.join()
    for each in found:
        torch.testing.assert_close(each.probabilities, expected)
    assert seen == {tuple(modes)}
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def test_model_in_evaluation_mode_is_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    predict(model, IMAGES, device="cpu")  # moves it
    writes: list[str] = []
    monkeypatch.setattr(Network, "__setattr__", lambda _, name, value: writes.append(name))
    parameters = {name: each.data_ptr() for name, each in model.named_parameters()}
    predict(model, IMAGES, device="cpu")
    assert not writes
    assert {name: each.data_ptr() for name, each in model.named_parameters()} == parameters


def test_hooks_of_a_model_in_training_mode_are_called() -> None:
    model, maps = network().train(), list[Tensor]()
    model.conv.register_forward_hook(lambda *arguments: maps.append(arguments[2]))
    model.norm.register_forward_hook(functools.partial(lambda found, *a: found.append(a[2]), maps))
    predict(model, IMAGES, device="cpu")
    assert len(maps) == 2


@pytest.mark.parametrize("training", [True, False])
def test_inference_mode_leaves_a_model_and_predictions_that_can_be_trained(training: bool) -> None:
    model = network().train(training)
    with torch.inference_mode():
        images = torch.rand(4, 3, 12, 12)
        in_place = nn.Sequential(nn.ReLU(inplace=True), model)
        found = predict(in_place, images, device="cpu").probabilities
        evaluate(model, BATCHES, device="cpu")
    assert not any(each.is_inference() for each in (*model.parameters(), *model.buffers(), found))
    scale = torch.ones(1, requires_grad=True)
    (model.train()(IMAGES).sum() * (scale * found).sum()).backward()
    assert scale.grad is not None
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_lazy_layers_are_initialised() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))
    found = predict(model, IMAGES, device="cpu").probabilities
    torch.testing.assert_close(found, logits_of(copy.deepcopy(model).eval()).softmax(1))
    assert model.training
