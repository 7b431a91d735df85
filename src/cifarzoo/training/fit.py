"""The training loop."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import InstanceOf, StrictBool
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._triton import has_triton

from cifarzoo.data.loader import (
    Batch,
    BatchLoader,
    Loaders,
    Resumable,
    TensorLoader,
    start_epoch,
    to_device,
)
from cifarzoo.device import (
    keep_freed_memory,
    move_model,
    plain_float32,
    reseed,
    resolve_device,
    resolve_precision,
    rng_state,
    seeded,
    set_rng_state,
)
from cifarzoo.errors import CheckpointError, InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.predict import batches_to
from cifarzoo.recipe import Compile, PrecisionName, Recipe
from cifarzoo.record import History
from cifarzoo.training import distributed
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.checkpoint import Checkpoint, identity_of, names_of
from cifarzoo.training.initialize import initialize_from_images
from cifarzoo.training.interrupt import Interrupt, deferred_interrupt
from cifarzoo.training.kernels.fuse import fast_layers
from cifarzoo.training.loss import Loss
from cifarzoo.training.optim import OptimizerFactory, Schedule
from cifarzoo.training.progress import Progress, show_progress
from cifarzoo.training.state import RunState
from cifarzoo.validation import Seed, expand_path, validate

__all__ = ["fit"]

_COMPILED_STEPS = 5000  # from which on "auto" compiles; not yet measured on a GPU
_MAX_GRAPHS = 64  # before torch silently stops compiling; 8 by default


@torch.inference_mode(False)
def fit(
    model: nn.Module,
    loaders: Loaders,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen, so sharing it is safe
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    seed: int = 0,
    teacher: nn.Module | None = None,
    loss: Loss | None = None,
    optimizer: OptimizerFactory | None = None,
    schedule: Schedule | None = None,
    checkpoint: str | Path | None = None,
    initial_weights: str | None = None,
    compile: Compile = "auto",  # noqa: A002 - as in torch
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    provenance: str = "",
) -> History:
    """Train a model.

    The model is trained in place, moved to the device and left in evaluation mode, in the state
    that the recipe keeps. The seed determines the result on a given machine with a given number of
    threads and version of torch. The global random states of Python, NumPy and torch are seeded at
    the start of each epoch and restored at the end; since they belong to the whole process, calls
    of `fit` in several threads disturb each other.

    If `torch.distributed` is initialized, its processes train one model together with
    `DistributedDataParallel`. Each calls `fit` with the same arguments and computes its share of
    each batch of a `TensorLoader`; the first one writes the checkpoint, shows progress and runs the
    callbacks. The result differs from that of a single process only in rounding, dropout, mixing
    and batch norms: each process normalizes its own share unless the caller applies
    `nn.SyncBatchNorm.convert_sync_batchnorm` (on GPUs).

    Args:
        model: maps a batch of images, as the loaders yield them, to logits (N,K).
        loaders: `train` and `val` are iterables of (images, labels) with a length. A `TensorLoader`
            is moved to the device, and draws order and augmentation from `seed`. If a loader, or a
            sampler or data set inside it, has `set_epoch(epoch)`, that is called before each epoch;
            if it has a torch `generator`, that is seeded. If the loader has `iter_from(batch)`,
            that resumes within an epoch.
        recipe: the training settings. Batch size and augmentation are those of the loaders; a
            warning tells if they differ.
        device: "auto", or anything that `torch.device` accepts.
        precision: "auto" is bfloat16 where the device is faster in it, otherwise float32. Weights
            stay in float32. On a CPU, compiled and scripted models compute in float32.
        seed: seed of order, augmentation, dropout and all other random numbers, 0 or more.
        teacher: maps images to logits (N,K); required by a recipe with distillation.
        loss: replaces the cross-entropy in training, for recipes without label smoothing: maps
            logits (N,K) and labels (N,), or probabilities (N,K) where the recipe mixes images, to
            the mean loss. Checks still measure the cross-entropy on the validation split.
        optimizer: makes an optimizer from a list of parameters, in place of the recipe's, such as
            `functools.partial(torch.optim.RMSprop, lr=0.001)`. The schedule scales its rates.
        schedule: replaces the recipe's schedule: maps a step, from 0, and the number of steps to
            the factor of the learning rate.
        checkpoint: file that holds the state of the run, written at the start, at every check, and
            on Ctrl-C or SIGTERM. If it exists, the run resumes from it, with the same result as an
            uninterrupted run, unless a loader keeps other state between epochs, such as that of
            persistent workers. A recipe with more epochs extends a run.
        initial_weights: label of the weights that the model starts from, such as a tag or a hash;
            None for random weights. A checkpoint with another label is refused.
        compile: whether to train through `torch.compile`; "auto" does so on CUDA for runs of 5,000
            steps and more.
        progress: whether to show a progress bar.
        callbacks: observers of the run.
        provenance: code and machine, stored in the checkpoint for each part of an interrupted run.

    Returns:
        The checks of the run, and why it ended.

    Raises:
        CheckpointError: the checkpoint is damaged, belongs to another run, or cannot be written.
        InvalidTypeError: an argument has the wrong type.
        InvalidValueError: a value is not accepted, a loader is empty, a label is outside the
            model's classes, or arguments contradict each other.
        KeyboardInterrupt: Ctrl-C or SIGTERM, once the checkpoint is written; a second Ctrl-C does
            not wait for that.
        NonFiniteLossError: a loss became NaN or infinite; the model is in its best state.

    Example:
        >>> recipe = Recipe(epochs=1, optimizer="adam", lr=0.001)
        >>> loaders = shapes_loaders(recipe=recipe, n_train=500, n_test=100)
        >>> history = fit(build_model("report_baseline"), loaders, recipe, progress=False)
        >>> history.steps
        7
    """
    validate("model", model, InstanceOf[nn.Module])
    validate("loaders", loaders, InstanceOf[Loaders])
    validate("recipe", recipe, InstanceOf[Recipe])
    validate("callbacks", callbacks, Sequence[InstanceOf[Callback]])
    custom = {"loss": loss, "optimizer": optimizer, "schedule": schedule}
    for name, function in custom.items():
        is_class = isinstance(function, type) and name != "optimizer"
        if function is not None and (is_class or not callable(function)):
            kind = function.__name__ if isinstance(function, type) else type(function).__name__
            raise InvalidTypeError(f"{name} is {kind!r}: expected a function; see fit's arguments")
    if loss is not None and recipe.label_smoothing:
        raise InvalidValueError(
            f"label_smoothing is {recipe.label_smoothing}: expected 0 with your own loss"
        )
    if isinstance(loss, nn.Module) and any(each.requires_grad for each in loss.parameters()):
        raise InvalidValueError("loss has parameters: expected none, since fit trains the model's")
    validate("initial_weights", initial_weights, str | None)
    seed = validate("seed", seed, Seed)
    target = resolve_device(device)
    validate("compile", compile, StrictBool | Literal["auto"])
    if compile == "auto":
        is_long = recipe.epochs * len(loaders.train) >= _COMPILED_STEPS
        compile = is_long and target.type == "cuda" and has_triton()  # noqa: A001
    with _compiled(model) if compile else contextlib.nullcontext():
        dtype = resolve_precision("float32" if plain_float32(model, target) else precision, target)
        _check_arguments(model, loaders, recipe, teacher)
        path = None if checkpoint is None else expand_path("checkpoint", checkpoint)
        keep_freed_memory()
        move_model(model, target)
        if teacher is not None:
            move_model(teacher.eval(), target)
        settings = {
            "initial_weights": initial_weights,
            "seed": seed,
            "precision": str(dtype).removeprefix("torch."),
        }
        train, val = to_device(loaders.train, target), loaders.val
        if isinstance(train, TensorLoader):
            train = train.with_seed(seed)
        identity = identity_of(
            model, Loaders(train, val), recipe, teacher, **settings, **names_of(custom)
        )
        _require_same_run({**identity, "checkpoint": path is not None})
        store = Checkpoint(path, identity)
        names = getattr(loaders.train, "classes", None)
        if names is not None and hasattr(model, "class_names"):
            classifier: Any = model
            classifier.class_names = tuple(names)
        val = None if val is None else distributed.shard(to_device(val, target))
        shards = Loaders(_shard(train), val)
        is_first = distributed.is_rank_zero()
        observers = callbacks if is_first else ()
        cudnn = torch.backends.cudnn
        deterministic = cudnn.flags(
            enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32
        )
        no_autocast = torch.autocast(target.type, enabled=False)  # an enclosing one
        with seeded(seed, target), deferred_interrupt() as interrupt, deterministic, no_autocast:
            start = time.perf_counter()
            stored = store.load()
            if stored is None:
                initialize_from_images(model, train, target, seed)
            distributed.broadcast_state(model)
            state = RunState(
                model,
                recipe,
                device=target,
                dtype=dtype,
                steps_per_epoch=len(loaders.train),
                keeps_best=recipe.keep == "best" and loaders.val is not None,
                teacher=teacher,
                loss=loss,
                optimizer=optimizer,
                schedule=schedule,
            )
            state.seconds = time.perf_counter() - start
            if stored is not None:
                _restore(state, stored, path)
            state.parts += [provenance] if provenance else []
            if stored is None:
                store.save(state.payload)
                store.load()  # an unusable path or state raises now rather than after an epoch
            for callback in observers:
                callback.on_start(model, recipe)
            try:
                show = progress and is_first
                _train(state, shards, seed, interrupt, store, observers, progress=show)
            except BaseException as error:
                interrupted = isinstance(error, KeyboardInterrupt)
                state.stopped = state.stopped or ("interrupted" if interrupted else "failed")
                raise
            finally:
                state.restore_kept()
                model.eval()
                history = state.history()
                for callback in observers:
                    _end(callback, history)
    return history


@contextlib.contextmanager
def _compiled(model: nn.Module) -> Iterator[None]:
    """Call a model through `torch.compile` within the block."""
    before = model._compiled_call_impl
    model.compile(dynamic=False)
    try:
        # All models share `ImageClassifier.forward`, which may have many graphs.
        with torch._dynamo.config.patch(cache_size_limit=_MAX_GRAPHS):
            yield
    finally:
        model._compiled_call_impl = before


def _end(callback: Callback, history: History) -> None:
    """Call `on_end`; an error in it must not cost the run."""
    try:
        callback.on_end(history)
    except Exception as error:
        name = type(callback).__name__
        warnings.warn(f"{name}.on_end raised {type(error).__name__}: {error}", stacklevel=4)


def _check_arguments(
    model: nn.Module, loaders: Loaders, recipe: Recipe, teacher: nn.Module | None
) -> None:
    _check_model("model", model)
    for name, loader in (("train", loaders.train), ("val", loaders.val)):
        if loader is not None and not len(loader):
            raise InvalidValueError(f"loaders.{name} has no batches: expected at least one")
    train = loaders.train
    differs = {"batch_size": getattr(train, "batch_size", None) not in (None, recipe.batch_size)}
    if isinstance(train, TensorLoader) and recipe.augmentation is not None:
        differs["augmentation"] = train.augmentation != recipe.augmentation
    for name in (name for name, is_different in differs.items() if is_different):
        warnings.warn(
            f"{name} is {getattr(train, name)} in loaders.train, which is used, and "
            f"{getattr(recipe, name)} in the recipe; cifar10_loaders(recipe=recipe) avoids this",
            stacklevel=4,
        )
    if recipe.early_stopping is not None and loaders.val is None:
        raise InvalidValueError("loaders.val is None: expected a loader, for early stopping")
    if recipe.distillation is None and teacher is not None:
        raise InvalidValueError("teacher is set: expected None with a recipe without distillation")
    if recipe.distillation is not None:
        validate("teacher", teacher, InstanceOf[nn.Module])
    if teacher is not None:
        _check_model("teacher", teacher)
    least, only = getattr(model, "min_image_size", 1), getattr(model, "image_size", None)
    if any(size < least or only not in (None, size) for size in recipe.image_sizes):
        accepted = f"at least {least}" if only is None else f"only {only}"
        raise InvalidValueError(
            f"image_sizes is {recipe.image_sizes}: the model accepts {accepted} pixels"
        )


def _check_model(what: str, model: nn.Module) -> None:
    try:
        model.train(model.training)
    except NotImplementedError as error:
        raise InvalidTypeError(f"{what} is an exported program: expected a module") from error
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise InvalidValueError(f"{name} is lazy: call the {what} on a batch of images first")
        if tensor.is_meta:
            raise InvalidValueError(f"{name} is on the meta device: expected a {what} with values")
        if tensor.is_inference():
            raise InvalidValueError(
                f"{name} was made in torch.inference_mode: expected a model built outside it"
            )
        if tensor.requires_grad and tensor.dtype in (torch.float16, torch.bfloat16):
            raise InvalidValueError(
                f"{name} is {tensor.dtype}: expected float32; model.float() converts it, and "
                "precision='bfloat16' computes in bfloat16"
            )


def _require_same_run(identity: Mapping[str, object]) -> None:
    """Raise if the processes have different arguments; they would wait for each other."""
    first, *others = distributed.all_gather_object(identity)
    for other in others:
        differing = [name for name in first if first[name] != other[name]]
        if differing:
            raise InvalidValueError(
                f"the processes differ in {', '.join(differing)}: expected the same arguments"
            )


def _shard(loader: BatchLoader) -> BatchLoader:
    """Return this process's share of the training batches."""
    share, n = distributed.shard(loader), distributed.world_size()
    lengths = distributed.all_gather_object(len(share))
    if n > 1 and (share is loader or min(lengths) < max(lengths)):
        raise InvalidValueError(
            f"loaders.train cannot be divided among {n} processes: expected a TensorLoader with at "
            f"least {n} images in each batch; drop_last=True drops a smaller last one"
        )
    return share


def _restore(state: RunState, stored: dict[str, Any], path: Path | None) -> None:
    initial = state.best_model
    try:
        state.restore(stored)
    except Exception as error:  # damaged contents raise anything
        state.model.load_state_dict(initial)
        raise CheckpointError(
            f"checkpoint {path} is incomplete ({type(error).__name__}: {error}); delete it or use "
            "another path"
        ) from error


def _train(
    state: RunState,
    loaders: Loaders,
    seed: int,
    interrupt: Interrupt,
    store: Checkpoint,
    observers: Sequence[Callback],
    *,
    progress: bool,
) -> None:
    batches = _batches(state, loaders.train, seed)
    bar = show_progress(
        total_steps=state.total_steps,
        first_step=state.step,
        steps_per_epoch=state.steps_per_epoch,
        shown=progress,
    )
    with contextlib.closing(bar):
        while state.is_running():
            state.model.train()
            with fast_layers(state.model, state.device, state.dtype):
                stop = _take_steps(state, batches, interrupt, bar)
            state.synchronize()
            check = None
            if state.is_check_due():
                check = state.check(loaders.val)
                bar.check(check)
            if state.stopped is None and state.step == state.total_steps:
                state.stopped = "epochs"
            elif state.stopped is None and stop:
                state.stopped = "interrupted"
            _save(store, state)
            if check is not None:
                for callback in observers:
                    callback.on_check(check)
    if sum(distributed.all_gather_object(interrupt.pending)):
        raise KeyboardInterrupt


def _save(store: Checkpoint, state: RunState) -> None:
    """Write the checkpoint; a failure must not cost a run that has ended."""
    try:
        store.save(state.payload)
    except CheckpointError as error:
        if state.stopped in (None, "interrupted"):
            raise
        warnings.warn(str(error), stacklevel=5)


def _take_steps(
    state: RunState, batches: Iterator[Batch], interrupt: Interrupt, bar: Progress
) -> bool:
    """Train until a check is due, the run ends or it is interrupted; return True for the last."""
    while True:
        images, labels = next(batches)
        counts = distributed.sum_over_processes(torch.tensor([len(labels), interrupt.pending]))
        n, pending = counts.tolist()
        state.take_step(images, labels, n)
        bar.step(n, state.figures)
        if pending or state.is_check_due() or not state.is_running():
            return bool(pending)


def _batches(state: RunState, loader: BatchLoader, seed: int) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch, starting at the current step."""
    while True:
        epoch, first = divmod(state.step, state.steps_per_epoch)
        view = epoch % state.views if state.views else epoch
        batches = batches_to(
            _rest_of_epoch(loader, view, first, seed, state.device),
            state.device,
            channels_last=not plain_float32(state.model, state.device),
        )
        yield from itertools.islice(batches, state.steps_per_epoch - first)
        if state.step < (epoch + 1) * state.steps_per_epoch:
            raise InvalidValueError(
                f"loaders.train ended after {state.step % state.steps_per_epoch} batches: expected "
                f"its length, {state.steps_per_epoch}"
            )


def _rest_of_epoch(
    loader: BatchLoader, epoch: int, first: int, seed: int, device: torch.device
) -> Iterator[Batch]:
    """Start an epoch, whose random numbers depend on seed and epoch alone; skip `first` batches."""
    before = rng_state(device)
    epoch_seed = _epoch_seed(seed, epoch, distributed.rank())
    reseed(epoch_seed, device)
    start_epoch(loader, epoch, epoch_seed)
    if isinstance(loader, Resumable):
        batches = loader.iter_from(first)
        if first:  # a generator draws its order when it yields its first batch
            batches = itertools.chain([next(batches)], batches)
    else:
        batches = iter(loader)
        for _ in range(first):
            next(batches, None)
    if first:
        set_rng_state(device, before)
    return batches


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Return the seed of an epoch in one process: dropout has to differ between processes."""
    if epoch == rank == 0:
        return seed
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, rank))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
