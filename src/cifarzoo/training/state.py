"""The state of a run: what a checkpoint holds, and how a step and a check change it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError
from cifarzoo.evaluation.score import check_labels, logits_of, loss_and_accuracy
from cifarzoo.hardware import autocast, device_rng_state, set_device_rng_state
from cifarzoo.processes import Team
from cifarzoo.spec import Recipe
from cifarzoo.training.averaging import Average
from cifarzoo.training.checkpoint import Payload
from cifarzoo.training.fusion import fused_layers
from cifarzoo.training.history import Check, History, StopReason
from cifarzoo.training.loss import answers, mix, training_loss
from cifarzoo.training.optim import Optimizers
from cifarzoo.training.selection import Selector
from cifarzoo.training.synchronised import synchronised_norms

__all__ = ["RunState", "is_finite"]


def _require_gradients(model: nn.Module) -> None:
    """Refuse a model of which a step leaves parameters alone: the others would wait for them.

    Raises:
        OptionError: that names some.
    """
    unused = [n for n, each in model.named_parameters() if each.requires_grad and each.grad is None]
    if unused:
        raise OptionError(
            f"a step used none of {', '.join(unused[:3])}{' and more' if unused[3:] else ''}, and "
            "several processes have to wait for every gradient; set requires_grad to False, or "
            "use one process"
        )


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in state.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a checkpoint holds beside tensors: how far the run is."""

    step: int
    images: int
    seconds: float
    best_step: int
    stopped: StopReason | None
    checks: list[Check]
    counts: list[int]


def is_finite(model: nn.Module) -> bool:
    """Tell whether all of a model's parameters are numbers."""
    return all(bool(tensor.isfinite().all()) for tensor in model.parameters())


def _require_finite(name: str, state: dict[str, Any]) -> None:
    """Refuse weights that no run keeps.

    Raises:
        ValueError: one is not finite.
    """
    for key, value in state.items():
        if isinstance(value, Tensor) and not bool(value.isfinite().all()):
            raise ValueError(f"{key} of {name} is not finite")


def _require_alike(own: dict[str, Any], stored: dict[str, Any]) -> None:
    """Refuse a state that does not fit the model.

    Raises:
        ValueError: names or shapes differ.
    """
    shapes, others = (
        {name: getattr(value, "shape", None) for name, value in state.items()}
        for state in (own, stored)
    )
    if shapes != others:
        raise ValueError("best_model does not fit the model")


@dataclass(slots=True, kw_only=True)
class RunState:
    """Everything that changes while a model trains.

    What is validated and kept is the average of the weights where the recipe asks for one. A
    teacher is in evaluation mode, on the device, and does not change. A selector leaves images of
    each batch out. The losses since the last check stay on the device: reading one would make it
    wait. The run's seconds count from `clock`. Of a team, each process has its own losses and
    counts, and all else is the same in all.
    """

    model: nn.Module
    recipe: Recipe
    device: torch.device
    dtype: torch.dtype
    steps_per_epoch: int
    keeps_best: bool
    teacher: nn.Module | None = None
    selector: Selector | None = None
    team: Team = field(default_factory=Team)
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    stopped: StopReason | None = None
    checks: list[Check] = field(default_factory=list)
    epoch_rng: Tensor | None = None
    best_step: int = 0
    best_model: dict[str, Any] = field(init=False)
    counts: list[int] = field(default_factory=list)
    losses: Tensor = field(init=False)
    correct: Tensor = field(init=False)
    optimizers: Optimizers = field(init=False)
    average: Average = field(init=False)
    wrapped: nn.Module | None = None
    wrapped_trains: list[bool] = field(default_factory=list)
    clock: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        named = self.model.named_parameters()
        self.optimizers = Optimizers(self.recipe, named, self.steps_per_epoch)
        self.losses = torch.zeros(self.steps_between_checks, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        averaging = self.recipe.averaging
        start = 0 if averaging is None else round(averaging.start_epochs * self.steps_per_epoch)
        self.average = Average(averaging, self.model, start)
        self.best_model = _copy(self.model.state_dict())

    @property
    def steps_between_checks(self) -> int:
        """Optimizer steps from one check to the next."""
        return max(1, self.steps_per_epoch // self.recipe.checks_per_epoch)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole recipe."""
        return self.recipe.epochs * self.steps_per_epoch

    def is_running(self) -> bool:
        """Whether there are steps left to take."""
        return self.stopped is None and self.step < self.total_steps

    def is_check_due(self) -> bool:
        """Whether the step just taken is followed by a check; a last state that is kept is."""
        is_kept = self.step == self.total_steps and not self.keeps_best
        return is_kept or self.step % self.steps_between_checks == 0

    def network(self) -> nn.Module:
        """Give what computes a step: the model, for a team wrapped anew when its groups end."""
        if self.team.is_alone:
            return self.model
        trains = [tensor.requires_grad for tensor in self.model.parameters()]
        if self.wrapped is None or trains != self.wrapped_trains:
            self.wrapped = self.team.wrapped(self.model, self.device)
            self.wrapped_trains = trains
        return self.wrapped

    def take_step(self, images: Tensor, labels: Tensor, n: int | None = None) -> None:
        """Forward, backward and one optimizer step.

        Args:
            images: of this process's share of the batch.
            labels: of those images.
            n: number of images in the whole batch; None where this is all of it.
        """
        n = len(labels) if n is None else n
        self.images += n
        if self.selector is not None:
            images, labels = self.selector.chosen(self.step, images, labels)
            n = len(labels)
        self.optimizers.set_rates(self.step)
        self.optimizers.zero_grad()
        network = self.network()
        batch = mix(images, labels, self.recipe.mixing)
        with autocast(self.device, self.dtype):
            taught = answers(self.teacher, batch.images)
        fused = fused_layers(self.model, self.device, self.dtype)
        with synchronised_norms(self.model, self.team), fused:
            with autocast(self.device, self.dtype):
                logits = logits_of(network, batch.images)
            if self.device.type == "cpu" or self.step % self.steps_per_epoch == 0:
                check_labels(labels, logits)  # on a GPU it would wait for every batch
            loss = training_loss(logits, batch, self.recipe, taught=taught)
            share = self.team.size * len(labels) / n  # of a team the gradients' mean is taken
            (loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        if not self.team.is_alone:
            _require_gradients(self.model)
        self.optimizers.step()
        self.losses[len(self.counts)] = loss.detach()
        self.correct += (logits.detach().argmax(1) == batch.main_labels()).sum()
        self.counts.append(len(labels))
        self.step += 1
        self.average.update(self.step)

    def train_loss(self) -> float:
        """Mean loss over this process's images since the last check; waits for the device."""
        return self._mean_loss().item()

    def _mean_loss(self) -> Tensor:
        weights = torch.tensor(self.counts, dtype=torch.float64)
        losses = self.losses[: len(self.counts)].cpu().double()
        return (losses * weights).sum() / weights.sum()

    def train_accuracy(self) -> float:
        """Accuracy over this process's images since the last check; waits for the device."""
        return self.correct.item() / sum(self.counts)

    def first_bad_step(self) -> int | None:
        """The first step since the last check whose loss is NaN or infinite, counted from 1."""
        bad = self.team.total((~self.losses[: len(self.counts)].isfinite()).int()).nonzero()
        return self.step - len(self.counts) + int(bad[0]) + 1 if len(bad) else None

    def check(self, validation: Iterable[tuple[Tensor, Tensor]] | None) -> Check:
        """Measure, keep the state if it is the best one, and decide whether to stop."""
        val_loss = val_accuracy = None
        n = torch.tensor(float(sum(self.counts)), dtype=torch.float64)
        sums = torch.stack([self._mean_loss() * n, self.correct.cpu().double(), n])
        loss_sum, correct, n = self.team.total(sums)
        train_loss, train_accuracy = (loss_sum / n).item(), (correct / n).item()
        if validation is not None:
            val_loss, val_accuracy = loss_and_accuracy(
                self.average.model,
                validation,
                device=self.device,
                dtype=self.dtype,
                total=self.team.total,
            )
        self.count_seconds()
        result = Check(
            step=self.step,
            epoch=self.step / self.steps_per_epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            lr=self.optimizers.lr,
            seconds=self.seconds,
        )
        self.counts.clear()
        self.correct.zero_()
        return result

    def is_finite(self, check: Check) -> bool:
        """Whether the model still computes numbers: its validation loss and its weights."""
        if check.val_loss is not None and not math.isfinite(check.val_loss):
            return False
        models = [self.model] if self.selector is None else [self.model, self.selector.model]
        return all(is_finite(each) for each in models)

    def accept(self, check: Check) -> None:
        """Add a check whose losses are finite to the history."""
        best = min((c.val_loss for c in self.checks if c.val_loss is not None), default=None)
        self.checks.append(check)
        improved = best is None or check.val_loss is None or check.val_loss < best
        if improved or not self.keeps_best:
            self.best_step = check.step
            self.best_model = _copy(self.average.model.state_dict())
        if self._should_stop_early():
            self.stopped = "early"

    def _should_stop_early(self) -> bool:
        stopping = self.recipe.early_stopping
        if stopping is None or len(self.checks) < stopping.patience:
            return False
        losses = [check.val_loss for check in self.checks[-stopping.patience :]]
        known = [loss for loss in losses if loss is not None]
        return len(known) == len(losses) and losses[0] == min(known)

    def restore_kept(self) -> None:
        """Put the kept state into the model: the best one, or the last good one after a NaN."""
        self.optimizers.release()
        if self.selector is not None:
            self.selector.release()
        if self.stopped == "diverged" or (self.keeps_best and self.best_step):
            self.model.load_state_dict(self.best_model)
        else:
            self.best_step = self.step
            self.model.load_state_dict(_copy(self.average.model.state_dict()))

    def count_seconds(self) -> None:
        """Add the time since the last call to the run's seconds."""
        now = time.perf_counter()
        self.seconds += now - self.clock
        self.clock = now

    def history(self) -> History:
        """What the run has been so far."""
        return History(
            checks=tuple(self.checks),
            best_step=self.best_step,
            stopped=self.stopped or "epochs",
            steps=self.step,
            images=self.images,
            seconds=self.seconds,
        )

    def payload(self) -> Payload:
        """Give the state as a checkpoint stores it; of a team the first process's holds all."""
        self.count_seconds()
        own = self._own_state()
        own |= {"others": self.team.everyones(own)[1:]} if not self.team.is_alone else {}
        return {
            "model": self.model.state_dict(),
            "best_model": self.best_model,
            "optimizers": self.optimizers.state_dict(),
            "average": self.average.state_dict(),
            "selector": None if self.selector is None else self.selector.state_dict(),
            "epoch_rng": self.epoch_rng,
            "checks": [asdict(check) for check in self.checks],
            **own,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "best_step": self.best_step,
            "stopped": self.stopped,
        }

    def _own_state(self) -> Payload:
        """Give what each process of a team has of its own."""
        return {
            "rng": torch.get_rng_state(),
            "device_rng": device_rng_state(self.device),
            "losses": self.losses.cpu(),
            "correct": self.correct.cpu(),
            "counts": list(self.counts),
        }

    def restore(self, payload: Payload) -> None:
        """Take the state from a checkpoint's payload.

        Raises:
            Exception: of many kinds, where something is missing or has another form.
        """
        import msgspec

        stored = cast("dict[str, Any]", payload)
        if not self.team.leads:
            stored = stored | stored["others"][self.team.rank - 1]
        plain = msgspec.convert(stored, Progress)
        steps = (plain.step, plain.best_step, len(plain.counts))
        if min(steps) < 0 or max(steps) > self.total_steps:
            raise ValueError(f"step {plain.step} of {self.total_steps}")
        is_over = plain.stopped not in (None, "interrupted") or plain.step == self.total_steps
        for name in ("best_model", "model") if is_over else ("best_model",):
            _require_finite(name, stored[name])
        self.model.load_state_dict(stored["model"])
        self.optimizers.load_state_dict(stored["optimizers"])
        self.average.load_state_dict(stored["average"])
        if self.selector is not None:
            self.selector.load_state_dict(stored["selector"])
        torch.set_rng_state(stored["rng"])
        set_device_rng_state(self.device, stored["device_rng"])
        self.epoch_rng = stored["epoch_rng"]
        self.checks = plain.checks
        self.losses.copy_(stored["losses"])
        self.correct.copy_(stored["correct"])
        _require_alike(self.best_model, stored["best_model"])
        self.best_model = stored["best_model"]
        self.counts = plain.counts
        self.step, self.images = plain.step, plain.images
        self.seconds, self.best_step = plain.seconds, plain.best_step
        self.stopped = None if plain.stopped == "interrupted" else plain.stopped
        self.clock = time.perf_counter()
