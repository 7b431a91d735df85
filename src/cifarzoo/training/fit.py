"""The training loop."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from cifarzoo.data.loaders import BatchLoader, Fingerprinted, HasEpochs, Loaders, Resumable
from cifarzoo.errors import (
    CheckpointError,
    EmptyLoaderError,
    NonFiniteLossError,
    OptionError,
    wrong_kind,
)
from cifarzoo.evaluation.score import batches_to, require_model
from cifarzoo.hardware import (
    keep_freed_memory,
    move_model,
    reseed,
    resolve_device,
    resolve_precision,
    seeded,
)
from cifarzoo.processes import Team, this_team
from cifarzoo.spec import PrecisionName, Recipe, to_path
from cifarzoo.training.arguments import (
    require_loaders,
    require_proxy,
    require_shares,
    require_teacher,
)
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.checkpoint import Payload, load_checkpoint, save_checkpoint
from cifarzoo.training.first_images import show_images
from cifarzoo.training.history import Check, History
from cifarzoo.training.identity import identity_of
from cifarzoo.training.interrupt import Interrupt, deferred_interrupt
from cifarzoo.training.progress import ProgressBar
from cifarzoo.training.selection import Proxy, Selector
from cifarzoo.training.state import RunState, is_finite

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
    proxy: Proxy | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train a model by a recipe.

    The model is trained in place, moved to the device, and left in the state that the recipe
    keeps, in evaluation mode. For one seed, on one machine, with one number of threads and one
    version of torch, the result is always the same; the global random state is left as it was.

    Where torch's default process group has several processes, they train one model together, and
    each of them calls this with the same arguments: a `TensorLoader`'s batches are shared out, the
    gradients averaged (`DistributedDataParallel`) and batch norms see whole batches, so the result
    is that of one process but for rounding, dropout and mixing. The first process alone writes,
    shows progress and calls callbacks.

    Args:
        model: any module that maps a batch of images to logits (N,K).
        loaders: `train` and `val`, each any iterable of (images, labels) with a length; the model
            is given the images as they come. A loader
            with `set_epoch(epoch)` is told the epoch; one with `iter_from(batch)` is resumed in
            the middle of an epoch without being read from its start. The order may be drawn from
            torch's global generator, as a DataLoader's is, but not from one of the loader's own.
        recipe: what to do. Its batch size and augmentation are the loader's business; `train`
            builds the loader from them.
        device: "auto", or what `torch.device` takes.
        precision: "auto" computes in bfloat16 where the device is faster in it, else in float32.
            Weights stay float32.
        seed: of dropout and whatever else the model draws, 0 or more.
        teacher: the network that the recipe's distillation learns from: images to logits (N,K), as
            `model`; it is moved to the device, put into evaluation mode, and not changed. None
            where the recipe has no distillation.
        proxy: the small network by which the recipe's selection chooses images, and its own recipe;
            it is moved to the device and trained along, in place. None where the recipe has no
            selection.
        checkpoint: a file in which the run's state is kept from the start, at every check, at
            Ctrl-C and at SIGTERM. If it is there, the run goes on from it, to the same result as
            if it had not been stopped. Another model, recipe, seed, precision, number of processes
            or `TensorLoader` is noticed; what loaders of other kinds give is not compared.
        progress: whether to show a progress bar.
        callbacks: what looks on.

    Returns:
        The run's checks, and why it ended.

    Raises:
        CheckpointError: the checkpoint is damaged, of another run, or cannot be written.
        EmptyLoaderError: a loader gave nothing.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after the checkpoint was written and the best state
            put back. A second Ctrl-C does not wait for the checkpoint.
        LabelError: a label is outside the model's classes.
        NonFiniteLossError: a loss became NaN or infinite; the model holds its best state.
        OptionError: a name is not known, early stopping without validation, distillation without a
            teacher, selection without a proxy or by several processes, a training loader that
            several processes cannot share, or the like.
    """
    require_model(model)
    for name, value, kind in (("loaders", loaders, Loaders), ("recipe", recipe, Recipe)):
        if not isinstance(value, kind):
            raise wrong_kind(name, value, f"{kind.__name__}(...)")
    if not isinstance(callbacks, Sequence):
        raise wrong_kind("callbacks", callbacks, "a list of them")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise wrong_kind("a callback", callback, "a Callback")
    require_loaders(loaders, recipe)
    require_teacher(teacher, recipe)
    require_proxy(proxy, recipe, model, teacher)
    target = resolve_device(device)
    dtype = resolve_precision(precision, target)
    keep_freed_memory()
    move_model(model, target)
    if teacher is not None:
        move_model(teacher.eval(), target)
    if proxy is not None:
        move_model(proxy.model, target)
    team = this_team()
    require_shares(loaders, team, target, recipe)
    path = None if checkpoint is None else to_path("checkpoint", checkpoint)
    identity = identity_of(
        model,
        recipe,
        seed,
        len(loaders.train),
        _fingerprint(loaders.train),
        dtype,
        teacher,
        team.size,
        _fingerprint(loaders.val),
        proxy,
    )
    _require_one_run(identity, team, checkpoint=path is not None, val=loaders.val is not None)
    team.spread(model)
    heard = callbacks if team.leads else ()
    cudnn = torch.backends.cudnn
    deterministic = cudnn.flags(
        enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32
    )
    with seeded(seed, target), deferred_interrupt() as interrupt, deterministic:
        stored = None if path is None else _stored(path, identity, team)
        began = time.perf_counter()
        if stored is None:
            for each in (model, *([] if proxy is None else [proxy.model])):
                show_images(each, loaders.train, target)
        if not team.leads:
            reseed(_seed_of(seed, team.rank), target)
        state = RunState(
            model=model,
            recipe=recipe,
            device=target,
            dtype=dtype,
            steps_per_epoch=len(loaders.train),
            clock=began,
            keeps_best=recipe.keep == "best" and loaders.val is not None,
            teacher=teacher,
            selector=_selector(proxy, recipe, len(loaders.train), target, dtype),
            team=team,
        )
        if path is not None and stored is not None:
            _restore(state, stored, path)
        for callback in heard:
            callback.on_start(model, recipe)

        def save() -> None:
            if path is not None:
                payload = state.payload()
                team.led(lambda: save_checkpoint(path, payload, identity))

        try:
            if stored is None:
                save()  # a path that cannot be written shows now, not after minutes
            shares = Loaders(team.share(loaders.train), team.share(loaders.val))
            _run(state, shares, interrupt, save, heard, shown=progress and team.leads)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            state.stopped = state.stopped or ("interrupted" if interrupted else "failed")
            raise
        finally:
            state.wrapped = None
            state.restore_kept()
            model.eval()
            history = state.history()
            for callback in heard:
                callback.on_end(history)
    return history


def _fingerprint(loader: object) -> str | None:
    return loader.fingerprint if isinstance(loader, Fingerprinted) else None


def _stored(path: Path, identity: Payload, team: Team) -> Payload | None:
    """Read the checkpoint, if there is one, in the first process, and give it to the others."""
    return team.led(lambda: load_checkpoint(path, identity))


def _restore(state: RunState, stored: Payload, path: Path) -> None:
    """Take the state from a checkpoint; where it cannot be taken the model is left as it was."""
    models = [state.model] if state.selector is None else [state.model, state.selector.model]
    before = [copy.deepcopy(each.state_dict()) for each in models]
    try:
        state.restore(stored)
    except Exception as error:  # whatever torch raises that is given something else
        for each, own in zip(models, before, strict=True):
            each.load_state_dict(own)
        raise CheckpointError(
            f"{path} is the checkpoint of this run, but not a whole one ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); delete it to start the run anew, or give "
            "another path"
        ) from error


def _require_one_run(identity: Payload, team: Team, **settings: bool) -> None:
    """Refuse processes that were asked for different runs; they would wait for each other."""
    mine, *others = team.everyones({**identity, **settings})
    for rank, other in enumerate(others, 1):
        differing = sorted(key for key in mine | other if mine.get(key) != other.get(key))
        if differing:
            raise OptionError(
                f"the first process and process {rank} were asked for runs that differ in "
                f"{', '.join(differing)}; every process of a group calls fit with the same"
            )


def _seed_of(seed: int, rank: int) -> int:
    """Give a process its own seed, which is no other run's."""
    return int.from_bytes(hashlib.sha256(f"{seed} {rank}".encode()).digest()[:7])


def _selector(
    proxy: Proxy | None, recipe: Recipe, steps: int, device: torch.device, dtype: torch.dtype
) -> Selector | None:
    if proxy is None or recipe.selection is None:
        return None
    return Selector(
        recipe.selection,
        proxy,
        epochs=recipe.epochs,
        steps_per_epoch=steps,
        device=device,
        dtype=dtype,
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
            for images, labels in batches_to(_rest_of_epoch(state, loaders.train), state.device):
                n, pending = state.team.sums((len(labels), int(interrupt.pending)))
                state.take_step(images, labels, n)
                bar.step(n, state.train_loss, state.train_accuracy)
                if state.is_check_due():
                    check = _check(state, loaders.val)
                    bar.check(check)
                    for callback in callbacks:
                        callback.on_check(check)
                    save()
                if (pending or (interrupt.pending and state.team.is_alone)) and state.is_running():
                    state.stopped = "interrupted"
                    save()
                if not state.is_running() or state.step % state.steps_per_epoch == 0:
                    break
            else:
                raise EmptyLoaderError(
                    f"the training loader ended before the {state.steps_per_epoch} batches that "
                    f"its length promises, after step {state.step}"
                )
    if state.stopped is None:
        state.stopped = "epochs"
        save()
    if sum(state.team.sums([int(interrupt.pending)])):
        raise KeyboardInterrupt


def _rest_of_epoch(state: RunState, loader: BatchLoader) -> Iterator[tuple[Tensor, Tensor]]:
    epoch, batch = divmod(state.step, state.steps_per_epoch)
    if isinstance(loader, HasEpochs):
        loader.set_epoch(epoch)
    if isinstance(loader, Resumable):
        return loader.iter_from(batch)
    return _skipped(state, loader, batch)


def _skipped(state: RunState, loader: BatchLoader, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Read a loader up to a batch, in the order that its epoch began with.

    A DataLoader draws that order from torch's global generator.
    """
    now = torch.get_rng_state()
    if batch and state.epoch_rng is not None:
        torch.set_rng_state(state.epoch_rng)
    else:
        state.epoch_rng = now
    batches = iter(loader)
    for _ in range(batch):
        next(batches, None)
    if batch:
        torch.set_rng_state(now)
    return batches


def _check(state: RunState, validation: BatchLoader | None) -> Check:
    """Measure; a loss that is not finite ends the run."""
    bad_step = state.first_bad_step()
    check = None if bad_step else state.check(validation)
    if check is not None and state.is_finite(check):
        state.accept(check)
        return check
    state.stopped = "diverged"
    if bad_step:
        which = f"the training loss at step {bad_step}"
    else:
        lost = check is not None and check.val_loss is not None and not isfinite(check.val_loss)
        which = "the validation loss" if lost else "a weight"
    lr = f"lr than {state.recipe.lr:g}"
    if state.selector is not None and not is_finite(state.selector.model):
        which, lr = "a weight of the proxy", f"lr of its recipe than {state.selector.lr:g}"
    raise NonFiniteLossError(
        f"{which} is not finite (found at step {state.step}, epoch "
        f"{state.step / state.steps_per_epoch:.2f}); the model was put back to its state of step "
        f"{state.best_step}. Try a lower {lr}, a warm-up, or float32",
        state.history(),
    )
