"""Bad input and runs that go wrong: a clear error, and nothing is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo import (
    Callback,
    Check,
    EarlyStopping,
    EmptyLoaderError,
    History,
    ImageClassifier,
    LabelError,
    Loaders,
    NonFiniteLossError,
    OptionError,
    RangeError,
    Recipe,
    ShapeError,
    TensorLoader,
    evaluate,
    fit,
)
from cifarzoo.training.checkpoint import load_checkpoint
from cifarzoo.training.identity import identity_of

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]
Batches = list[tuple[Tensor, Tensor]]


class Watch(Callback):
    """Keep the network's weights at every check, and how the run ended."""

    def __init__(self) -> None:
        self.weights = dict[int, Tensor]()
        self.end: History | None = None

    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        self.model = model
        self.weights[0] = _weight(model)

    def on_check(self, check: Check) -> None:
        self.weights[check.step] = _weight(self.model)

    def on_end(self, history: History) -> None:
        self.end = history


def _weight(model: nn.Module) -> Tensor:
    return model.get_parameter("1.weight").detach().clone()


@pytest.fixture
def linear() -> nn.Module:
    """A network that does not look at the range of its images."""
    layer = nn.Linear(3072, 10)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-0.01, 0.01, 30720).view(10, 3072))
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture
def batches(loaders: Loaders) -> Batches:
    return list(loaders.train)


def _with_nan(batches: Batches, at: int) -> Batches:
    bad = batches[at][0] * math.nan, batches[at][1]
    return [*batches[:at], bad, *batches[at + 1 :]]


@pytest.mark.parametrize(("bad", "kept"), [(0, 0), (1, 0), (2, 2), (5, 4)])
def test_nan_in_training_stops_the_run_says_where_and_keeps_the_state(
    linear: nn.Module, batches: Batches, loaders: Loaders, bad: int, kept: int
) -> None:
    watch, recipe = Watch(), Recipe(epochs=2, lr=0.001, checks_per_epoch=3)
    with pytest.raises(NonFiniteLossError, match=f"the training loss at step {bad + 1} ") as caught:
        fit_quietly(
            linear, Loaders(_with_nan(batches, bad), loaders.val), recipe, callbacks=[watch]
        )
    message = str(caught.value)
    assert f"found at step {kept + 2}, epoch {(kept + 2) / 6:.2f}" in message
    assert f"put back to its state of step {kept}." in message
    assert "lower lr than 0.001" in message
    history = caught.value.history
    assert history.stopped == "diverged"
    assert [check.step for check in history.checks] == list(range(2, kept + 1, 2))
    assert history.best_step == kept
    assert torch.equal(_weight(linear), watch.weights[kept])
    assert not linear.training
    assert watch.end == replace(history, seconds=watch.end.seconds if watch.end else 0)


def test_nan_in_validation_stops_the_run(linear: nn.Module, batches: Batches) -> None:
    val = _with_nan(batches[:2], 1)
    with pytest.raises(NonFiniteLossError, match="the validation loss is not finite"):
        fit_quietly(linear, Loaders(batches, val), Recipe(epochs=1, lr=0.001))
    assert bool(_weight(linear).isfinite().all())


def test_run_that_diverges_keeps_its_best_state_not_its_last(
    linear: nn.Module, batches: Batches
) -> None:
    watch = Watch()
    recipe = Recipe(epochs=1, lr=0.05, checks_per_epoch=6)
    twice = _with_nan([*batches, *batches], 10)
    other_labels = [(images, (labels + 1) % 10) for images, labels in batches]
    with pytest.raises(NonFiniteLossError) as caught:
        fit_quietly(linear, Loaders(twice, other_labels), recipe, callbacks=[watch])
    losses = {check.step: check.val_loss or math.nan for check in caught.value.history.checks}
    best = min(losses, key=lambda step: losses[step])
    assert best < max(losses)
    assert caught.value.history.best_step == best
    assert torch.equal(_weight(linear), watch.weights[best])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_that_became_nan_in_the_last_step_are_not_taken_for_good(
    linear: nn.Module, batches: Batches, keep: str
) -> None:
    """The loss is measured before the step that spoils the weights."""
    calls = 0

    def spoil(gradient: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return gradient * (math.nan if calls == 4 else 1)

    linear.get_parameter("1.weight").register_hook(spoil)  # type: ignore[no-untyped-call]
    recipe = replace(Recipe(epochs=2, lr=0.001, checks_per_epoch=3), keep=keep)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteLossError, match="a weight is not finite") as caught:
        fit_quietly(linear, Loaders(batches), recipe)
    assert caught.value.history.best_step == 2
    assert bool(_weight(linear).isfinite().all())


def test_nan_after_the_last_regular_check_is_found(linear: nn.Module, batches: Batches) -> None:
    recipe = Recipe(epochs=1, lr=0.001, checks_per_epoch=2, keep="last")
    with pytest.raises(NonFiniteLossError, match="training loss at step 5"):
        fit_quietly(linear, Loaders(_with_nan(batches[:5], 4)), recipe)
    assert bool(_weight(linear).isfinite().all())


def test_bad_state_does_not_overwrite_the_checkpoint(
    linear: nn.Module, batches: Batches, loaders: Loaders, tmp_path: Path
) -> None:
    path, recipe = tmp_path / "run.pt", Recipe(epochs=1, lr=0.001, checks_per_epoch=3)
    with pytest.raises(NonFiniteLossError):
        fit_quietly(linear, Loaders(_with_nan(batches, 4), loaders.val), recipe, checkpoint=path)
    assert isinstance(loaders.val, TensorLoader)
    val = loaders.val.fingerprint
    stored = load_checkpoint(path, identity_of(linear, recipe, 0, 6, validation=val))
    assert stored is not None
    assert stored["step"] == 4
    assert stored["stopped"] is None
    model = stored["model"]
    assert isinstance(model, dict)
    assert all(bool(tensor.isfinite().all()) for tensor in model.values())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((8,), 10), r"labels lie in \d+\.\.10; the model has 10 classes, so 0\.\.9 are"),
        (torch.full((8,), -1), r"labels lie in -1\.\."),
        (torch.zeros(8), "labels are torch.float32; needed are integers"),
    ],
)
@pytest.mark.parametrize("where", ["train", "val"])
def test_labels_out_of_range_are_refused(
    model: ImageClassifier, batches: Batches, labels: Tensor, message: str, where: str
) -> None:
    bad = [*batches[:2], (batches[2][0], labels)]
    loaders = Loaders(bad, batches) if where == "train" else Loaders(batches, bad)
    with pytest.raises(LabelError, match=message):
        fit_quietly(model, loaders, Recipe(epochs=1))
    assert not model.training


def test_labels_that_are_not_one_an_image_are_refused(
    model: ImageClassifier, batches: Batches
) -> None:
    for labels in (batches[0][1][:3], nn.functional.one_hot(batches[0][1], 10)):
        with pytest.raises(ShapeError, match="needed are labels"):
            fit_quietly(model, Loaders([(batches[0][0], labels)]), Recipe(epochs=1))


def test_images_of_a_wrong_range_or_shape_are_refused(
    model: ImageClassifier, batches: Batches
) -> None:
    images, labels = batches[0]
    with pytest.raises(RangeError, match="divide by 255"):
        fit_quietly(model, Loaders([(images * 255, labels)]), Recipe(epochs=1))
    with pytest.raises(ShapeError, match="3, 32, 32"):
        fit_quietly(model, Loaders([(images[..., :28, :28], labels)]), Recipe(epochs=1))


@pytest.mark.parametrize("where", ["train", "val"])
def test_loader_of_no_batch_is_refused_before_the_first_step(
    model: ImageClassifier, batches: Batches, where: str
) -> None:
    empty: Batches = []
    before = model.state_dict()["network.head.logits.bias"].clone()
    loaders = Loaders(empty, batches) if where == "train" else Loaders(batches, empty)
    with pytest.raises(EmptyLoaderError, match="training" if where == "train" else "validation"):
        fit_quietly(model, loaders, Recipe(epochs=1))
    assert torch.equal(model.state_dict()["network.head.logits.bias"], before)


def test_torch_loader_that_drops_its_only_batch_is_refused(
    model: ImageClassifier, batches: Batches
) -> None:
    short = DataLoader(TensorDataset(*batches[0]), batch_size=64, drop_last=True)
    with pytest.raises(EmptyLoaderError, match="fewer images than its batch size"):
        fit_quietly(model, Loaders(short), Recipe(epochs=1))


class Liar:
    """A loader that gives fewer batches than it promises."""

    def __init__(self, batches: Batches, length: int) -> None:
        self.batches, self.length = batches, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def test_loader_that_gives_less_than_it_promises_is_refused(
    model: ImageClassifier, batches: Batches
) -> None:
    with pytest.raises(EmptyLoaderError, match="before the 9 batches that its length promises"):
        fit_quietly(model, Loaders(Liar(batches, 9)), Recipe(epochs=1))
    with pytest.raises(EmptyLoaderError, match="gave no batch"):
        fit_quietly(model, Loaders(Liar([], 9)), Recipe(epochs=1))


def test_batch_without_an_image_is_refused(model: ImageClassifier, batches: Batches) -> None:
    nothing = batches[0][0][:0], batches[0][1][:0]
    with pytest.raises(EmptyLoaderError, match="holds no image"):
        fit_quietly(model, Loaders([nothing]), Recipe(epochs=1))


def test_early_stopping_needs_validation(model: ImageClassifier, batches: Batches) -> None:
    with pytest.raises(OptionError, match="no validation split; give loaders with val"):
        fit_quietly(model, Loaders(batches), Recipe(early_stopping=EarlyStopping()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "gpu"}, "device 'gpu'"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_unknown_options_are_refused(
    model: ImageClassifier, batches: Batches, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        fit(model, Loaders(batches), progress=False, **changes)  # type: ignore[arg-type]


def test_model_with_nothing_to_train_is_refused(model: ImageClassifier, batches: Batches) -> None:
    with pytest.raises(OptionError, match="no trainable parameter"):
        fit_quietly(model.requires_grad_(False), Loaders(batches))


PAIR = (torch.rand(4, 3, 8, 8), torch.arange(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "report_baseline"}, r"model is 'report_baseline' \(str\); needed is a torch.nn"),
        ({"model": lambda images: images}, "model is a function; needed is a torch.nn.Module"),
        ({"recipe": None}, r"recipe is None \(NoneType\); needed is Recipe\(\.\.\.\)"),
        ({"recipe": {"epochs": 1}}, r"recipe is a dict; needed is Recipe"),
        ({"loaders": [PAIR]}, "loaders is a list; needed is Loaders"),
        ({"callbacks": Callback()}, "callbacks is a Callback; needed is a list of them"),
    ],
)
def test_argument_of_another_kind_is_named(
    loaders: Loaders, changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"model": nn.Linear(1, 1), "loaders": loaders, "recipe": Recipe()}
    with pytest.raises(OptionError, match=message):
        fit(**(arguments | changes), device="cpu", progress=False)


class Single:
    """A loader of one batch, whatever that is."""

    def __init__(self, batch: Any) -> None:  # noqa: ANN401
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        yield self.batch


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": PAIR[0], "label": PAIR[1]}, "the loader gave a dict; needed are pairs"),
        ((*PAIR, PAIR[1]), "gave a tuple of 3: Tensor, Tensor, Tensor; needed are pairs"),
        ((PAIR[0].numpy(), PAIR[1].numpy()), "gave a tuple of 2: ndarray, ndarray; needed are"),
        (PAIR[0], "the loader gave a Tensor; needed are pairs"),
    ],
)
def test_batch_that_is_no_pair_of_tensors_is_refused(batch: Any, message: str) -> None:  # noqa: ANN401
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(OptionError, match=message):
        fit_quietly(network, Loaders(Single(batch)), Recipe(epochs=1))
    with pytest.raises(OptionError, match=message):
        evaluate(network, [batch], device="cpu")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.int64])
def test_images_that_a_module_cannot_take_are_named_with_the_way_out(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    batches = [(torch.ones(4, 3, 8, 8, dtype=dtype), PAIR[1])]
    message = rf"cannot take {dtype} images .* ImageClassifier\(Preprocess\(\), model\)"
    with pytest.raises(RangeError, match=message):
        fit_quietly(network, Loaders(batches), Recipe(epochs=1))
    with pytest.raises(RangeError, match=message):
        evaluate(network, batches, device="cpu", precision="float32")


def test_fault_of_a_model_is_its_own() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(191, 4))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit_quietly(network, Loaders([PAIR]), Recipe(epochs=1))


def test_model_that_gives_more_than_logits_is_refused() -> None:
    class Pair(nn.Linear):
        def forward(self, images: Tensor) -> Any:  # noqa: ANN401
            logits = super().forward(images.flatten(1))
            return logits, images

    with pytest.raises(ShapeError, match="the model gave a tuple; needed are its logits alone"):
        fit_quietly(Pair(192, 4), Loaders([PAIR]), Recipe(epochs=1))


def test_batch_of_one_that_a_batch_norm_cannot_learn_from_is_told() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.BatchNorm1d(10))
    batches = [(torch.rand(n, 3, 32, 32), torch.zeros(n, dtype=torch.int64)) for n in (4, 1)]
    with pytest.raises(ShapeError, match=r"batch of shape \(1, 3, 32, 32\); choose a batch size"):
        fit_quietly(model, Loaders(batches, batches, batches), Recipe(epochs=1))
