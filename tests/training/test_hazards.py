"""Runs in unusual surroundings give the result of a plain run."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    TensorDataset,
)
from typing_extensions import override

from cifarzoo import (
    Augmentation,
    Callback,
    Check,
    History,
    ImageClassifier,
    Loaders,
    Mixing,
    Recipe,
    build_model,
    fit,
)
from cifarzoo.errors import CheckpointError, InvalidTypeError, InvalidValueError
from cifarzoo.recipe import PrecisionName
from cifarzoo.training import checkpoint as checkpoints

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)
TWO_EPOCHS = Recipe(epochs=2, batch_size=8, keep="last")


def _weights(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def _assert_equal(one: list[Tensor], other: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- random numbers ---


def _data(loaders: Loaders) -> TensorDataset:
    images, labels = (torch.cat(parts) for parts in zip(*loaders.train, strict=True))
    return TensorDataset(images, labels)


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    @override
    def on_check(self, check: Check) -> None:
        if check.step == self.step:
            raise KeyboardInterrupt


class NoisyDataset(Dataset[Any]):
    """Adds noise from the generators of Python and NumPy."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.data[index]
        noise = random.random() + np.random.rand()  # noqa: NPY002
        return (image + 0.1 * noise).clamp(0, 1), label


@pytest.mark.parametrize("step", [4, 6, 8])
@pytest.mark.parametrize("kind", ["own generator", "noise"])
def test_loader_with_a_state_resumes_in_the_same_order(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path, kind: str, step: int
) -> None:
    data: Any = _data(make_loaders())
    recipe = Recipe(epochs=3, batch_size=8, checks_per_epoch=3, keep="last")

    def run(callbacks: list[Callback], checkpoint: Path | None) -> list[Tensor]:
        generator = torch.Generator().manual_seed(9) if kind == "own generator" else None
        source = NoisyDataset(data) if kind == "noise" else data
        loader = DataLoader(source, batch_size=8, shuffle=True, generator=generator)
        model = make_model(dropout=0.2)
        fit_quietly(model, Loaders(loader), recipe, checkpoint=checkpoint, callbacks=callbacks)
        return _weights(model)

    whole = run([], None)
    with pytest.raises(KeyboardInterrupt):
        run([StopAt(step)], tmp_path / "run.pt")
    torch.rand(step)
    random.random()
    _assert_equal(run([], tmp_path / "run.pt"), whole)


class EpochSampler(Sampler[int]):
    def __init__(self, n: int) -> None:
        self.n, self.epochs = n, list[int]()

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return self.n

    @override
    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


class EpochBatches(EpochSampler):
    @override
    def __iter__(self) -> Iterator[Any]:
        return iter([[0, 1, 2, 3], [4, 5, 6, 7]])


class EpochDataset(Dataset[Any]):
    def __init__(self, data: TensorDataset) -> None:
        self.data, self.epochs = data, list[int]()

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return len(self.data)

    @override
    def __getitem__(self, index: int) -> Any:
        return self.data[index]


def test_epoch_reaches_samplers_and_data_sets(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    data = EpochDataset(_data(make_loaders()))
    sampler, batches = EpochSampler(len(data)), EpochBatches(2)
    subset = torch.utils.data.Subset(data, range(16))
    for loader in (
        DataLoader(data, batch_size=8, sampler=sampler),
        DataLoader(data, batch_sampler=batches),
        DataLoader(subset, batch_size=8),
        DataLoader(ConcatDataset([data]), batch_size=8),
    ):
        fit_quietly(make_model(), Loaders(loader), TWO_EPOCHS)
    assert sampler.epochs == [0, 1]
    assert batches.epochs == [0, 1]
    assert data.epochs == [0, 1] * 4


class Drops(nn.Module):
    """Uses the generators of Python and NumPy, as pytorchcv's FractalNet does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @override
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits * (random.random() + np.random.rand()) if self.training else logits  # noqa: NPY002


def test_seed_covers_python_and_numpy_and_restores_them(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    found = []
    for _ in range(2):
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        model = Drops(make_model())
        fit_quietly(model, make_loaders(), TWO_EPOCHS)
        found.append(_weights(model))
        assert (random.random(), np.random.rand()) == expected  # noqa: NPY002
    _assert_equal(*found)


def test_another_number_of_threads_is_named(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    options: Any = {"checkpoint": tmp_path / "run.pt", "callbacks": [StopAt(6)]}
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(make_model(), make_loaders(), TWO_EPOCHS, **options)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match=f"{threads} CPU threads, now there are {threads + 1}"):
            fit_quietly(make_model(), make_loaders(), TWO_EPOCHS, checkpoint=tmp_path / "run.pt")
    finally:
        torch.set_num_threads(threads)


# --- the caller's modes ---


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_enclosing_modes_change_nothing(
    make_model: MakeModel, make_loaders: MakeLoaders, precision: PrecisionName
) -> None:
    found = []
    for context in (
        torch.enable_grad(),
        torch.autocast("cpu", torch.bfloat16),
        torch.no_grad(),
        torch.inference_mode(),
    ):
        model = make_model()
        with context:
            fit(
                model, make_loaders(), TWO_EPOCHS, device="cpu", precision=precision, progress=False
            )
        found.append(_weights(model))
    for other in found[1:]:
        _assert_equal(found[0], other)


def test_models_that_cannot_be_trained_are_named(make_loaders: MakeLoaders) -> None:
    with torch.inference_mode():
        inference = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    cases = {
        "lazy": nn.Sequential(nn.Flatten(), nn.LazyLinear(10)),
        "inference_mode": inference,
        "float32": nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).half(),
    }
    for message, model in cases.items():
        with pytest.raises(InvalidValueError, match=message):
            fit_quietly(model, make_loaders(), TWO_EPOCHS)


def test_loaders_need_a_length() -> None:
    class Stream(IterableDataset[Any]):
        @override
        def __iter__(self) -> Iterator[Any]:
            return iter([(torch.rand(3, 32, 32), torch.tensor(0))])

    with pytest.raises(InvalidTypeError, match="train has no length"):
        Loaders(DataLoader(Stream()))


# --- float32 is torch's own loop ---


IGNORE_JIT = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


class Unusual(nn.Module):
    """Layers under forward-mode differentiation, `torch.func` and copying."""

    def __init__(self) -> None:
        super().__init__()
        conv, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2, groups=4)
        self.convs = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), last, nn.ReLU())
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(4, 10)
        self.copies: list[nn.Module] = []

    @override
    def forward(self, images: Tensor) -> Tensor:
        ones = torch.ones_like(images)
        maps, tangents, *_ = torch.func.jvp(self.convs, (images,), (ones,))
        rows = torch.func.vmap(lambda image: self.convs(image[None])[0])(images)
        self.copies[:] = [copy.deepcopy(self.convs)]
        maps = self.drop(maps) + tangents + rows + self.copies[0](images)
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


MODELS: dict[str, Callable[[], nn.Module]] = {
    "unusual": Unusual,
    **{name: partial(build_model, name) for name in ("report_model2", "resnet20", "tiny_s")},
}


@IGNORE_JIT  # torch.func.jvp uses it
@pytest.mark.parametrize("name", MODELS)
def test_float32_gives_the_bits_of_a_torch_loop(make_loaders: MakeLoaders, name: str) -> None:
    recipe = Recipe(batch_size=8, epochs=1, momentum=0.9, keep="last")
    ours = MODELS[name]().train()
    theirs = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    fit_quietly(ours, make_loaders(), recipe, seed=3)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=recipe.lr, momentum=0.9)
    torch.manual_seed(3)
    for images, labels in make_loaders(seed=3).train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(theirs(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
    _assert_equal(_weights(ours), _weights(theirs))


@IGNORE_JIT
def test_faster_layers_do_not_last(make_loaders: MakeLoaders) -> None:
    model = Unusual()
    fit(model, make_loaders(), TWO_EPOCHS, device="cpu", precision="bfloat16", progress=False)
    modules = [*model.modules(), *model.copies[0].modules()]
    assert not any("forward" in vars(module) for module in modules)


def test_second_derivatives_equal_those_of_torch(make_loaders: MakeLoaders) -> None:
    class Penalty(nn.Module):
        """Adds the norm of the gradient with respect to the images to the logits."""

        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(8))
            self.rest = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten())
            self.head = nn.Linear(1024, 10)

        @override
        def forward(self, images: Tensor) -> Tensor:
            images = images.requires_grad_()
            logits: Tensor = self.head(self.rest(self.convs(images)))
            if not self.training:
                return logits
            (grad,) = torch.autograd.grad(logits.square().sum(), images, create_graph=True)
            return logits + grad.square().sum((1, 2, 3))[:, None]

    found = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model, recipe = Penalty(), Recipe(batch_size=8, epochs=1, lr=1e-4, keep="last")
        before = _weights(model)
        fit(model, make_loaders(), recipe, device="cpu", precision=precision, progress=False)
        found.append([after - start for after, start in zip(_weights(model), before, strict=True)])
    for exact, rounded in zip(*found, strict=True):
        assert (rounded - exact).norm() < 0.1 * exact.norm()


class Restless(nn.Module):
    """Pickles and changes its layers, and calls them again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.dilated = nn.Sequential(nn.Conv2d(4, 4, 3, dilation=2), nn.ReLU())
        self.head = nn.Linear(4, 10)

    @override
    def forward(self, images: Tensor) -> Tensor:
        maps = pickle.loads(pickle.dumps(self.convs))(images)
        self.convs[1] = nn.Sigmoid() if self.training else nn.ReLU()
        maps = maps + self.convs(images)
        self.convs[1] = nn.ReLU()
        maps = checkpoint(self.dilated, maps, use_reentrant=False)
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def test_layers_that_are_pickled_changed_or_called_again(make_loaders: MakeLoaders) -> None:
    ours, recipe = Restless(), Recipe(batch_size=8, epochs=1, keep="last")
    theirs = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    rounded = copy.deepcopy(ours)
    fit_quietly(ours, make_loaders(), recipe)
    fit(rounded, make_loaders(), recipe, device="cpu", precision="bfloat16", progress=False)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=recipe.lr)
    for images, labels in make_loaders().train:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(theirs(images), labels))
        optimizer.step()
    torch.testing.assert_close(_weights(ours), _weights(theirs))
    torch.testing.assert_close(_weights(rounded), _weights(theirs), atol=0.01, rtol=0.1)


def test_global_hooks_see_every_layer(make_loaders: MakeLoaders) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 10))
    seen = set()
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, *_: seen.add(type(module).__name__)
    )
    with hook:
        fit_quietly(model, Loaders(list(make_loaders().train)[:1]), TWO_EPOCHS)
    assert seen >= {"Conv2d", "ReLU", "Linear"}


def test_generator_of_batches_resumes_in_the_same_order(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    class Shuffled:
        def __init__(self) -> None:
            self.images, self.labels = _data(make_loaders()).tensors

        def __len__(self) -> int:
            return len(self.images) // 8

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return self.iter_from(0)

        def iter_from(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.split(torch.randperm(len(self.images)), 8)
            for indices in order[batch : len(self)]:
                yield self.images[indices], self.labels[indices]

    recipe = replace(TWO_EPOCHS, checks_per_epoch=3)
    models = [make_model(dropout=0.2) for _ in range(3)]
    fit_quietly(models[0], Loaders(Shuffled()), recipe)
    options: Any = {"checkpoint": tmp_path / "run.pt"}
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(models[1], Loaders(Shuffled()), recipe, callbacks=[StopAt(8)], **options)
    fit_quietly(models[2], Loaders(Shuffled()), recipe, **options)
    _assert_equal(_weights(models[0]), _weights(models[2]))


def test_exported_programs_and_models_without_values_are_refused(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    images = next(iter(make_loaders().train))[0]
    exported = torch.export.export(make_model().eval(), (images,)).module()
    with pytest.raises(InvalidTypeError, match="exported program"):
        fit_quietly(exported, make_loaders(), TWO_EPOCHS)
    with pytest.raises(InvalidValueError, match="meta device"):
        fit_quietly(nn.Linear(3, 10, device="meta"), make_loaders(), TWO_EPOCHS)


def test_checkpoint_that_cannot_be_written_at_the_end_does_not_cost_the_run(
    make_model: MakeModel,
    make_loaders: MakeLoaders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = checkpoints._write

    def fill_disk(path: Path, content: dict[str, Any]) -> None:
        if content["payload"]["stopped"] is not None:
            raise CheckpointError("no space left")
        write(path, content)

    monkeypatch.setattr(checkpoints, "_write", fill_disk)
    with pytest.warns(UserWarning, match="no space left"):
        history = fit_quietly(
            make_model(), make_loaders(), TWO_EPOCHS, checkpoint=tmp_path / "run.pt"
        )
    assert history.stopped == "epochs"


# --- what a user adds ---


def test_own_loss_optimizer_and_schedule_replace_the_recipe(make_loaders: MakeLoaders) -> None:
    """The same steps as by a loop of torch with RMSprop and the mean squared error."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits - nn.functional.one_hot(labels, 10)).square().mean()

    ours = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    theirs = copy.deepcopy(ours)
    make = partial(torch.optim.RMSprop, lr=0.001)
    recipe = Recipe(batch_size=8, epochs=1, keep="last")
    history = fit_quietly(
        ours,
        make_loaders(),
        recipe,
        loss=loss,
        optimizer=make,
        schedule=lambda step, n: 1 - step / n,
    )
    optimizer = make(theirs.parameters())
    n = history.steps
    for step, (images, labels) in enumerate(make_loaders().train):
        optimizer.param_groups[0]["lr"] = 0.001 * (1 - step / n)
        optimizer.zero_grad()
        torch.autograd.backward(loss(theirs(images), labels))
        optimizer.step()
    _assert_equal(_weights(ours), _weights(theirs))
    assert history.checks[-1].lr == pytest.approx(0.001 / n)


def test_seed_reaches_the_loader(make_loaders: MakeLoaders) -> None:
    class First(nn.Module):
        """A network that records its first training images."""

        def __init__(self) -> None:
            super().__init__()
            self.head, self.images = nn.Linear(3, 10), list[Tensor]()

        @override
        def forward(self, images: Tensor) -> Tensor:
            self.images.append(images)
            logits: Tensor = self.head(images.mean((2, 3)))
            return logits

    augmentation = Augmentation(flip="random", translate=2)
    loaders = make_loaders(augmentation=augmentation, seed=5)
    networks = {seed: First() for seed in (0, 1)}
    for seed, network in networks.items():
        fit_quietly(network, loaders, Recipe(epochs=1, batch_size=8), seed=seed)
        (expected, _), *_ = make_loaders(augmentation=augmentation, seed=seed).train
        assert torch.equal(network.images[0], expected)
    assert not torch.equal(networks[0].images[0], networks[1].images[0])


def test_optimizer_has_all_parameters_and_no_others(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    other = nn.Linear(1, 1)
    for factory, count in (
        (lambda found: torch.optim.SGD(found[:2]), r"2 of the model's 8 .* and 0 others"),
        (lambda _: torch.optim.SGD(other.parameters()), r"0 of the model's 8 .* and 2 others"),
    ):
        with pytest.raises(InvalidValueError, match=count):
            fit_quietly(make_model(), make_loaders(), TWO_EPOCHS, optimizer=factory)


def test_own_loss_replaces_label_smoothing_and_trains_nothing(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    own = nn.functional.cross_entropy
    smooth = replace(TWO_EPOCHS, label_smoothing=0.1)
    with pytest.raises(InvalidValueError, match=r"label_smoothing is 0\.1"):
        fit_quietly(make_model(), make_loaders(), smooth, loss=own)

    class WithCentres(nn.CrossEntropyLoss):
        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(torch.zeros(10))

    with pytest.raises(InvalidValueError, match="loss has parameters"):
        fit_quietly(make_model(), make_loaders(), TWO_EPOCHS, loss=WithCentres())


def test_own_functions_are_checked(make_model: MakeModel, make_loaders: MakeLoaders) -> None:
    def per_image(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    for options, message in (
        ({"loss": "focal"}, "loss is 'str'"),
        ({"loss": nn.CrossEntropyLoss}, "loss is 'CrossEntropyLoss'"),
        ({"optimizer": "adam"}, "optimizer is 'str'"),
        ({"schedule": lambda step, steps: -1.0}, "schedule"),
        ({"loss": per_image}, "expected a scalar"),
        ({"loss": lambda logits, labels: 0.0}, "loss"),
        ({"optimizer": lambda parameters: parameters}, "optimizer"),
    ):
        with pytest.raises((InvalidTypeError, InvalidValueError), match=message):
            fit_quietly(make_model(), make_loaders(), TWO_EPOCHS, **options)


@pytest.mark.parametrize("mixing", [None, Mixing(kind="mixup")])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    make_loaders: MakeLoaders, mixing: Mixing | None
) -> None:
    """Without batch norms; 3 parts of a batch of 8 have different sizes."""
    whole = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    parts = copy.deepcopy(whole)
    recipe = replace(TWO_EPOCHS, mixing=mixing)
    one = fit_quietly(whole, make_loaders(), recipe)
    other = fit_quietly(parts, make_loaders(), replace(recipe, accumulate=3))
    torch.testing.assert_close(_weights(parts), _weights(whole))
    for a, b in zip(one.checks, other.checks, strict=True):
        assert (a.train_accuracy, a.train_loss) == pytest.approx((b.train_accuracy, b.train_loss))


def test_gradients_are_clipped_to_their_norm(make_loaders: MakeLoaders) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    before = _weights(model)
    images, labels = next(iter(make_loaders().train))
    recipe = Recipe(batch_size=8, epochs=1, lr=1.0, clip_grad_norm=0.01, keep="last")
    fit_quietly(model, Loaders([(images, labels)]), recipe)
    steps = [after - start for after, start in zip(_weights(model), before, strict=True)]
    assert torch.cat([step.flatten() for step in steps]).norm() == pytest.approx(0.01, rel=1e-3)


def test_finished_run_is_extended(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    """With a constant learning rate, it ends as a longer run would have."""
    longer, extended = make_model(dropout=0.2), make_model(dropout=0.2)
    recipe = replace(TWO_EPOCHS, epochs=4)
    fit_quietly(longer, make_loaders(), recipe)
    fit_quietly(extended, make_loaders(), TWO_EPOCHS, checkpoint=tmp_path / "run.pt")
    history = fit_quietly(extended, make_loaders(), recipe, checkpoint=tmp_path / "run.pt")
    assert history.steps == 24
    _assert_equal(_weights(longer), _weights(extended))
    with pytest.raises(CheckpointError, match=r"recipe\.epochs was 4, is 2"):
        fit_quietly(extended, make_loaders(), TWO_EPOCHS, checkpoint=tmp_path / "run.pt")


def test_extending_a_schedule_warns(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    cosine = replace(TWO_EPOCHS, schedule="cosine")
    fit_quietly(make_model(), make_loaders(), cosine, checkpoint=tmp_path / "run.pt")
    longer = replace(cosine, epochs=3)
    with pytest.warns(UserWarning, match="extended from 2 to 3 epochs"):
        fit_quietly(make_model(), make_loaders(), longer, checkpoint=tmp_path / "run.pt")


def test_versions_of_modules_survive_a_checkpoint(
    make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    """torchvision's MNASNet converts its weights if their version is missing."""
    from torchvision.models import mnasnet0_5

    model, recipe = mnasnet0_5(num_classes=10), Recipe(batch_size=8, epochs=1, lr=0.001)
    loaders = Loaders(list(make_loaders().train)[:2])
    for _ in range(2):
        assert fit_quietly(model, loaders, recipe, checkpoint=tmp_path / "run.pt").steps == 2


def test_failing_callback_does_not_cost_the_run(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    class Failing(Callback):
        @override
        def on_end(self, history: History) -> None:
            raise OSError("disk full")

    with pytest.warns(UserWarning, match="disk full"):
        history = fit_quietly(make_model(), make_loaders(), TWO_EPOCHS, callbacks=[Failing()])
    assert history.stopped == "epochs"


def test_settings_of_the_loader_that_differ_from_the_recipe_are_named(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    recipe = replace(TWO_EPOCHS, batch_size=16, augmentation=Augmentation(flip="random"))
    with pytest.warns(UserWarning, match=r"(batch_size is 8|augmentation is None)") as caught:
        fit_quietly(make_model(), make_loaders(), recipe)
    assert len(caught) == 2
