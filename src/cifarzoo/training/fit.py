"""The training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cifarzoo.data.loaders import BatchLoader, Loaders
from cifarzoo.errors import EmptyLoaderError, NonFiniteLossError, OptionError
from cifarzoo.evaluation.score import batches_to
from cifarzoo.hardware import keep_freed_memory, resolve_device, resolve_precision, seeded
from cifarzoo.spec import PrecisionName, Recipe
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.checkpoint import load_checkpoint, save_checkpoint
from cifarzoo.training.history import Check, History
from cifarzoo.training.interrupt import Interrupt, deferred_interrupt
from cifarzoo.training.progress import ProgressBar
from cifarzoo.training.state import RunState, identity_of

__all__ = ["fit"]


@runtime_checkable
class HasEpochs(Protocol):
    """A loader that is told which epoch comes next, as torch's DistributedSampler is."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next `iter()` gives, from 0."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A loader that can skip batches without making them."""

    def iter_from(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the epoch's batches from this one on."""
        ...


def fit(
    model: nn.Module,
    loaders: Loaders,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen, so sharing it is safe
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train a model by a recipe.

    The model is trained in place, moved to the device, and left in the state that the recipe
    keeps, in evaluation mode. For one seed, on one machine, the result is always the same; the
    global random state is left as it was.

    Args:
        model: any module that maps a batch of images to logits (N,K).
        loaders: `train` and `val`, each any iterable of (images, labels) with a length. A loader
            with `set_epoch(epoch)` is told the epoch; one with `iter_from(batch)` is resumed in
            the middle of an epoch without being read from its start.
        recipe: what to do. Its batch size and augmentation are the loader's business; `train`
            builds the loader from them.
        device: "auto", or what `torch.device` takes.
        precision: "auto" computes in bfloat16 where the device has units for it, else in float32.
            Weights stay float32.
        seed: of dropout and whatever else the model draws.
        checkpoint: a file in which the run's state is kept at every check and at Ctrl-C. If it is
            there, the run goes on from it, to the same result as if it had not been stopped.
        progress: whether to show a progress bar.
        callbacks: what looks on.

    Returns:
        The run's checks, and why it ended.

    Raises:
        CheckpointError: the checkpoint is damaged, of another run, or cannot be written.
        EmptyLoaderError: a loader gave nothing.
        KeyboardInterrupt: Ctrl-C, after the checkpoint was written and the best state put back.
        LabelError: a label is outside the model's classes.
        NonFiniteLossError: a loss became NaN or infinite; the model holds its best state.
        OptionError: a name is not known, early stopping without validation, or the like.
    """
    target = resolve_device(device)
    state = _begin(model, loaders, recipe, target, resolve_precision(precision, target))
    path = None if checkpoint is None else Path(checkpoint)
    identity = identity_of(model, recipe, seed, state.steps_per_epoch)
    deterministic = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=True
    )
    with seeded(seed, target), deferred_interrupt() as interrupt, deterministic:
        stored = None if path is None else load_checkpoint(path, identity)
        if stored is not None:
            state.restore(stored)
        for callback in callbacks:
            callback.on_start(model, recipe)

        def save() -> None:
            if path is not None:
                save_checkpoint(path, state.payload(), identity)

        try:
            _run(state, loaders, interrupt, save, callbacks, shown=progress)
        finally:
            state.restore_kept()
            model.eval()
            history = state.history()
            for callback in callbacks:
                callback.on_end(history)
    return history


def _begin(
    model: nn.Module,
    loaders: Loaders,
    recipe: Recipe,
    device: torch.device,
    dtype: torch.dtype,
) -> RunState:
    if recipe.early_stopping is not None and loaders.val is None:
        raise OptionError(
            "the recipe stops early but there is no validation split; give loaders with val, or "
            "replace(recipe, early_stopping=None)"
        )
    if len(loaders.train) < 1:
        raise EmptyLoaderError(
            "the training loader has no batch; a loader that drops its last batch has none if it "
            "holds fewer images than its batch size"
        )
    keep_freed_memory()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return RunState(
        model=model,
        recipe=recipe,
        device=device,
        dtype=dtype,
        steps_per_epoch=len(loaders.train),
        keeps_best=recipe.keep == "best" and loaders.val is not None,
    )


def _run(
    state: RunState,
    loaders: Loaders,
    interrupt: Interrupt,
    save: Callable[[], None],
    callbacks: Sequence[Callback],
    *,
    shown: bool,
) -> None:
    """Train until the recipe is done; every way out has saved what it should."""
    with ProgressBar(total_steps=state.total_steps, first_step=state.step, shown=shown) as bar:
        while state.is_running():
            state.model.train()
            epoch, batch = divmod(state.step, state.steps_per_epoch)
            remaining = _rest_of_epoch(loaders.train, epoch, batch)
            for images, labels in batches_to(remaining, state.device):
                state.take_step(images, labels)
                bar.step(len(labels), state.train_loss, state.train_accuracy)
                if state.step % state.steps_between_checks == 0:
                    check = _check(state, loaders.val)
                    bar.check(check)
                    for callback in callbacks:
                        callback.on_check(check)
                    save()
                if interrupt.pending and state.is_running():
                    state.stopped = "interrupted"
                    save()
                    raise KeyboardInterrupt
                if not state.is_running() or state.step % state.steps_per_epoch == 0:
                    break
    if state.stopped is None:
        state.stopped = "epochs"
        save()


def _rest_of_epoch(loader: BatchLoader, epoch: int, batch: int) -> Iterable[tuple[Tensor, Tensor]]:
    if isinstance(loader, HasEpochs):
        loader.set_epoch(epoch)
    if isinstance(loader, Resumable):
        return loader.iter_from(batch)
    return itertools.islice(loader, batch, None)


def _check(state: RunState, validation: BatchLoader | None) -> Check:
    """Measure; a loss that is not finite ends the run."""
    bad_step = state.first_bad_step()
    check = None if bad_step else state.check(validation)
    if check is not None and (check.val_loss is None or math.isfinite(check.val_loss)):
        state.accept(check)
        return check
    state.stopped = "diverged"
    which = f"training loss at step {bad_step}" if bad_step else "validation loss"
    raise NonFiniteLossError(
        f"the {which} is not finite (found at step {state.step}, epoch "
        f"{state.step / state.steps_per_epoch:.2f}); the model was put back to its state of step "
        f"{state.best_step}. Try a lower lr than {state.recipe.lr:g}, a warm-up, or float32",
        state.history(),
    )
