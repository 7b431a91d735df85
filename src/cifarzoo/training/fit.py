"""The training loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import InstanceOf
from torch import nn

from cifarzoo.data.loader import Batch, BatchLoader, HasEpochs, Loaders, Resumable, to_device
from cifarzoo.device import (
    keep_freed_memory,
    move_model,
    reseed,
    resolve_device,
    resolve_precision,
    seeded,
)
from cifarzoo.errors import CheckpointError, InvalidValueError
from cifarzoo.evaluation.predict import batches_to
from cifarzoo.recipe import PrecisionName, Recipe
from cifarzoo.record import History
from cifarzoo.training import distributed
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.checkpoint import Checkpoint, identity_of
from cifarzoo.training.initialize import initialize_from_images
from cifarzoo.training.interrupt import Interrupt, deferred_interrupt
from cifarzoo.training.kernels.fuse import fast_layers
from cifarzoo.training.progress import Progress, show_progress
from cifarzoo.training.state import RunState
from cifarzoo.validation import Seed, expand_path, validate

__all__ = ["fit"]


def fit(
    model: nn.Module,
    loaders: Loaders,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen, so sharing it is safe
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    seed: int = 0,
    teacher: nn.Module | None = None,
    checkpoint: str | Path | None = None,
    initial_weights: str | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    provenance: str = "",
) -> History:
    """Train a model.

    The model is trained in place, moved to the device and left in evaluation mode, in the state
    that the recipe keeps. The seed determines the result on a given machine with a given number of
    threads and version of torch. The global random state is restored.

    If `torch.distributed` is initialized, its processes train one model together with
    `DistributedDataParallel`. Each calls `fit` with the same arguments and computes its share of
    each batch of a `TensorLoader`; the first one writes the checkpoint, shows progress and runs the
    callbacks. The result differs from that of a single process only in rounding, dropout, mixing
    and batch norms: each process normalizes its own share unless the caller applies
    `nn.SyncBatchNorm.convert_sync_batchnorm` (on GPUs).

    Args:
        model: maps a batch of images, as the loaders yield them, to logits (N,K).
        loaders: `train` and `val` are iterables of (images, labels) with a length. A `TensorLoader`
            is moved to the device. If a loader has `set_epoch(epoch)`, it is called before each
            epoch; if it has `iter_from(batch)`, that resumes within an epoch. Loaders may draw
            their order from torch's global generator, as a `DataLoader` does.
        recipe: the training settings. Batch size and augmentation are those of the loaders.
        device: "auto", or anything that `torch.device` accepts.
        precision: "auto" is bfloat16 where the device is faster in it, otherwise float32. Weights
            stay in float32.
        seed: seed for dropout and other random numbers drawn during training, 0 or more.
        teacher: maps images to logits (N,K); required by a recipe with distillation.
        checkpoint: file that holds the state of the run, written at the start, at every check, and
            on Ctrl-C or SIGTERM. If it exists, the run resumes from it, with the same result as an
            uninterrupted run.
        initial_weights: label of the weights that the model starts from, such as a tag or a hash;
            None for random weights. A checkpoint with another label is refused.
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
    """
    validate("model", model, InstanceOf[nn.Module])
    validate("loaders", loaders, InstanceOf[Loaders])
    validate("recipe", recipe, InstanceOf[Recipe])
    validate("callbacks", callbacks, Sequence[InstanceOf[Callback]])
    validate("initial_weights", initial_weights, str | None)
    seed = validate("seed", seed, Seed)
    target = resolve_device(device)
    dtype = resolve_precision(precision, target)
    _check_arguments(loaders, recipe, teacher)
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
    identity = identity_of(model, loaders, recipe, teacher, **settings)
    _require_same_run({**identity, "checkpoint": path is not None})
    store = Checkpoint(path, identity)
    train, val = to_device(loaders.train, target), loaders.val
    val = None if val is None else distributed.shard(to_device(val, target))
    shards = Loaders(_shard(train), val)
    is_first = distributed.is_rank_zero()
    observers = callbacks if is_first else ()
    cudnn = torch.backends.cudnn
    deterministic = cudnn.flags(
        enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32
    )
    with seeded(seed, target), deferred_interrupt() as interrupt, deterministic:
        start = time.perf_counter()
        stored = store.load()
        if stored is None:
            initialize_from_images(model, train, target)
        if not is_first:  # dropout has to differ between processes
            reseed(hash((seed, distributed.rank())) % 2**63, target)
        distributed.broadcast_state(model)
        state = RunState(
            model,
            recipe,
            device=target,
            dtype=dtype,
            steps_per_epoch=len(loaders.train),
            keeps_best=recipe.keep == "best" and loaders.val is not None,
            teacher=teacher,
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
            _train(state, shards, interrupt, store, observers, progress=progress and is_first)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            state.stopped = state.stopped or ("interrupted" if interrupted else "failed")
            raise
        finally:
            state.restore_kept()
            model.eval()
            history = state.history()
            for callback in observers:
                callback.on_end(history)
    return history


def _check_arguments(loaders: Loaders, recipe: Recipe, teacher: object) -> None:
    for name, loader in (("train", loaders.train), ("val", loaders.val)):
        if loader is not None and not len(loader):
            raise InvalidValueError(f"loaders.{name} has no batches: expected at least one")
    if recipe.early_stopping is not None and loaders.val is None:
        raise InvalidValueError("loaders.val is None: expected a loader, for early stopping")
    if recipe.distillation is None and teacher is not None:
        raise InvalidValueError("teacher is set: expected None with a recipe without distillation")
    if recipe.distillation is not None:
        validate("teacher", teacher, InstanceOf[nn.Module])


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
    interrupt: Interrupt,
    store: Checkpoint,
    observers: Sequence[Callback],
    *,
    progress: bool,
) -> None:
    batches = _batches(state, loaders.train)
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
            if state.is_check_due():
                check = state.check(loaders.val)
                bar.check(check)
                for callback in observers:
                    callback.on_check(check)
            if state.stopped is None and state.step == state.total_steps:
                state.stopped = "epochs"
            elif state.stopped is None and stop:
                state.stopped = "interrupted"
            store.save(state.payload)
    if sum(distributed.all_gather_object(interrupt.pending)):
        raise KeyboardInterrupt


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


def _batches(state: RunState, loader: BatchLoader) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch, starting at the current step."""
    while True:
        epoch, first = divmod(state.step, state.steps_per_epoch)
        batches = batches_to(_rest_of_epoch(state, loader, epoch, first), state.device)
        yield from islice(batches, state.steps_per_epoch - first)
        if state.step < (epoch + 1) * state.steps_per_epoch:
            raise InvalidValueError(
                f"loaders.train ended after {state.step % state.steps_per_epoch} batches: expected "
                f"its length, {state.steps_per_epoch}"
            )


def _rest_of_epoch(state: RunState, loader: BatchLoader, epoch: int, first: int) -> Iterator[Batch]:
    if isinstance(loader, HasEpochs):
        loader.set_epoch(epoch)
    if isinstance(loader, Resumable):
        return loader.iter_from(first)
    # A DataLoader draws its order from the global generator when the epoch starts.
    now = torch.get_rng_state()
    if first and state.epoch_rng is not None:
        torch.set_rng_state(state.epoch_rng)
    else:
        state.epoch_rng = now
    batches = iter(loader)
    for _ in range(first):
        next(batches, None)
    if first:
        torch.set_rng_state(now)
    return batches
