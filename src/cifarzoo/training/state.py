"""The state of a run: the contents of a checkpoint, changed by steps and checks."""

from __future__ import annotations

import contextlib
import copy
import math
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward

from cifarzoo.data.loader import Batch
from cifarzoo.device import autocast, rng_state, set_rng_state
from cifarzoo.errors import NonFiniteLossError
from cifarzoo.evaluation.predict import check_labels, compute_logits, logits_of
from cifarzoo.recipe import Recipe
from cifarzoo.record import Check, History, StopReason
from cifarzoo.safe_convolutions import SafeConvolutions
from cifarzoo.training import distributed
from cifarzoo.training.averaging import Average
from cifarzoo.training.early_stopping import should_stop
from cifarzoo.training.loss import Loss, Mixed, mix, resize, training_loss
from cifarzoo.training.optim import OptimizerFactory, Optimizers, Schedule

__all__ = ["RunState", "load_state"]

# Attributes that a checkpoint stores unchanged.
_STORED = ("best_model", "best_step", "images", "parts", "seconds", "step", "stopped")


def _backward(loss: Tensor) -> None:
    options = {"allow_unreachable": True, "accumulate_grad": True}
    _engine_run_backward((loss,), (torch.ones_like(loss),), False, False, (), **options)


def load_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load a state dict that may have lost the versions of its modules in a file."""
    versioned = model.state_dict()
    versioned.clear()  # keeps the versions
    versioned.update(state)
    model.load_state_dict(versioned)


class RunState:
    """Everything that changes while a model trains.

    Losses since the last check stay on the device, because reading one waits for it. Each process
    has its own losses, counts and random state; everything else is the same in all of them. The
    model and the teacher, which is in evaluation mode, are on the device. `keeps_best` keeps the
    state with the lowest validation loss instead of the last one.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        *,
        device: torch.device,
        dtype: torch.dtype,
        steps_per_epoch: int,
        keeps_best: bool,
        teacher: nn.Module | None = None,
        loss: Loss | None = None,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.model, self.recipe, self.teacher, self.loss = model, recipe, teacher, loss
        self.device, self.dtype = device, dtype
        self.views = None if recipe.distillation is None else recipe.distillation.views
        self.teacher_logits: dict[int, Tensor] = {}  # by step, for the first `views` epochs
        self._mixing_seed = torch.initial_seed() + distributed.rank()
        self.steps_per_epoch = steps_per_epoch
        self.steps_between_checks = max(1, steps_per_epoch // recipe.checks_per_epoch)
        self.total_steps = recipe.epochs * steps_per_epoch
        self.keeps_best = keeps_best
        self.step = self.images = self.best_step = 0
        self.seconds = 0.0
        self.stopped: StopReason | None = None
        self.parts: list[str] = []  # provenance of each part of an interrupted run
        self.checks: list[Check] = []
        self.counts: list[int] = []  # images of each step since the last check
        self.losses = torch.zeros(self.steps_between_checks, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.best_model = copy.deepcopy(model.state_dict())
        self.optimizers = Optimizers(
            recipe,
            model.named_parameters(),
            steps_per_epoch,
            optimizer=optimizer,
            schedule=schedule,
        )
        averaging = recipe.averaging
        start = 0 if averaging is None else round(averaging.start_epochs * steps_per_epoch)
        self.average = Average(averaging, model, start)
        self._wrapped: tuple[nn.Module, list[bool]] | None = None
        self._clock = time.perf_counter()

    def is_running(self) -> bool:
        """Return whether there are steps left to take."""
        return self.stopped is None and self.step < self.total_steps

    def is_check_due(self) -> bool:
        """Return whether a check follows the last step."""
        keeps_this = self.step == self.total_steps and not self.keeps_best
        return keeps_this or self.step % self.steps_between_checks == 0

    def take_step(self, images: Tensor, labels: Tensor, n: int) -> None:
        """Run a forward pass, a backward pass and an optimizer step.

        Args:
            images: this process's share of the batch.
            labels: labels of these images.
            n: number of images in the whole batch, over all processes.
        """
        self.optimizers.set_lr(self.step)
        self.optimizers.zero_grad()
        losses = []
        if self.teacher is None:  # teachers see whole images; mixing small ones takes less time
            images = self._resize(images)
        mixed = self._mix(images, labels)
        # All processes need the same number of backward passes.
        count = min(self.recipe.accumulate, max(1, n // distributed.world_size()))
        taught = self._ask_teacher(mixed.images)
        targets = [None] * count if taught is None else taught.tensor_split(count)
        for part, teacher_logits in zip(mixed.split(count), targets, strict=True):
            loss, guard = self._loss(part, teacher_logits)
            share = distributed.world_size() * len(part.images) / n  # DDP averages over processes
            scaled = loss if share == 1 else loss * share
            # `torch.utils.checkpoint` calls modules again; `Tensor.backward` would leave the mode.
            with guard if guard is not None and guard.has_replaced else contextlib.nullcontext():
                _backward(scaled)
            losses.append(loss.detach() * (len(part.images) / len(labels)))
        self.optimizers.step()
        self.losses[len(self.counts)] = torch.stack(losses).sum()
        self.counts.append(len(labels))
        self.images += n
        self.step += 1
        self.average.update(self.step)

    def _resize(self, images: Tensor) -> Tensor:
        return resize(images, self.recipe.image_size(self.step // self.steps_per_epoch))

    def _mix(self, images: Tensor, labels: Tensor) -> Mixed:
        mixing, epoch = self.recipe.mixing, self.step / self.steps_per_epoch
        if self.views is None or mixing is None:
            return mix(images, labels, mixing, epoch)
        # Images that come again must be mixed alike, however many numbers dropout has drawn.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._mixing_seed + self.step % (self.views * self.steps_per_epoch))
            return mix(images, labels, mixing, epoch)

    def _ask_teacher(self, images: Tensor) -> Tensor | None:
        """Return the teacher's logits, stored ones if the images have been seen before."""
        if self.teacher is None:
            return None
        step = self.step % (self.views * self.steps_per_epoch) if self.views else self.step
        logits = self.teacher_logits.get(step)
        if logits is None:
            with torch.no_grad(), autocast(self.device, self.dtype, self.teacher):
                logits = logits_of(self.teacher, images)
            if self.views:
                logits = self.teacher_logits[step] = logits.half()
        return logits

    def _loss(
        self, batch: Mixed, teacher_logits: Tensor | None
    ) -> tuple[Tensor, SafeConvolutions | None]:
        """Return the loss of a batch and the mode of its convolutions; count correct answers."""
        network = self._network()
        images = self._resize(batch.images)
        with autocast(self.device, self.dtype, self.model) as guard:
            logits = logits_of(network, images)
        if self.device.type == "cpu" or self.step % self.steps_per_epoch == 0:
            rows = logits.detach()
            if batch.weights is not None:
                rows = rows[:1].expand(batch.weights.shape[1], -1)
            check_labels(batch.labels, rows)  # waits for the batch on a GPU
        self.correct += (logits.detach().argmax(1) == batch.main_labels()).sum()
        loss = training_loss(
            logits, batch, self.recipe, teacher_logits=teacher_logits, custom=self.loss
        )
        return loss, guard

    def _network(self) -> nn.Module:
        """Return the model, wrapped in DDP with several processes."""
        if distributed.world_size() == 1:
            return self.model
        trained = [tensor.requires_grad for tensor in self.model.parameters()]
        if self._wrapped is None or self._wrapped[1] != trained:
            self._wrapped = nn.parallel.DistributedDataParallel(self.model), trained
        return self._wrapped[0]

    def synchronize(self) -> None:
        """Copy the first process's state to all, since batch norm statistics differ by process."""
        distributed.broadcast_state(self.model)
        if self.average.model is not self.model:
            distributed.broadcast_state(self.average.model)

    def figures(self) -> tuple[float, float]:
        """Return this process's mean loss and accuracy since the last check."""
        return self._mean_loss().item(), self.correct.item() / sum(self.counts)

    def _mean_loss(self) -> Tensor:
        counts = torch.tensor(self.counts, dtype=torch.float64)
        losses = self.losses[: len(self.counts)].cpu().double()
        return (losses * counts).sum() / counts.sum()

    def check(self, validation: Iterable[Batch] | None) -> Check:
        """Measure losses and accuracies; decide which state to keep and whether to stop.

        Raises:
            NonFiniteLossError: a loss or a weight is NaN or infinite.
        """
        check = self._measure(validation)
        if where := self._find_nonfinite(check):
            self.stopped = "diverged"
            raise NonFiniteLossError(
                f"{where} is not finite (found at step {self.step}); the model is restored to step "
                f"{self.best_step}. Try an lr below {self.recipe.lr:g}, a warm-up, or float32",
                self.history(),
            )
        self.checks.append(check)
        losses = [each.val_loss for each in self.checks if each.val_loss is not None]
        if not self.keeps_best or losses.index(min(losses)) == len(losses) - 1:
            self._keep()
        stopping = self.recipe.early_stopping
        if stopping is not None and should_stop(losses, stopping.patience):
            self.stopped = "early"
        self.counts.clear()
        self.correct.zero_()
        return check

    def _measure(self, validation: Iterable[Batch] | None) -> Check:
        n = torch.tensor(sum(self.counts), dtype=torch.float64)
        sums = torch.stack([self._mean_loss() * n, self.correct.cpu().double(), n])
        loss, correct, n = distributed.sum_over_processes(sums)
        val_loss = val_accuracy = None
        if validation is not None:
            val_loss, val_accuracy = self._validate(validation)
        self.count_seconds()
        return Check(
            step=self.step,
            epoch=self.step / self.steps_per_epoch,
            train_loss=(loss / n).item(),
            train_accuracy=(correct / n).item(),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            lr=self.optimizers.lr,
            seconds=self.seconds,
        )

    def _validate(self, data: Iterable[Batch]) -> tuple[float, float]:
        """Return the mean loss in nats and the accuracy of the kept weights over all processes."""
        logits, labels = compute_logits(
            self.average.model, data, device=self.device, dtype=self.dtype
        )
        loss, n = nn.functional.cross_entropy(logits, labels).item(), len(labels)
        correct = int((logits.argmax(1) == labels).sum())
        sums = torch.tensor([loss * n, correct, n], dtype=torch.float64)
        loss_sum, correct_sum, total = distributed.sum_over_processes(sums).tolist()
        return loss_sum / total, correct_sum / total

    def _find_nonfinite(self, check: Check) -> str | None:
        is_bad = ~self.losses[: len(self.counts)].isfinite()
        bad = distributed.sum_over_processes(is_bad.int()).nonzero()
        if len(bad):
            return f"the training loss at step {self.step - len(self.counts) + int(bad[0]) + 1}"
        if check.val_loss is not None and not math.isfinite(check.val_loss):
            return "the validation loss"
        finite = torch.stack([tensor.isfinite().all() for tensor in self.model.parameters()])
        return None if finite.all() else "a weight"

    def _keep(self) -> None:
        self.best_step = self.step
        self.best_model = copy.deepcopy(self.average.model.state_dict())

    def restore_kept(self) -> None:
        """Load the state that the recipe keeps, or the last finite one after divergence."""
        self._wrapped = None
        self.optimizers.release()
        if self.stopped != "diverged" and not (self.keeps_best and self.best_step):
            self._keep()
        load_state(self.model, self.best_model)

    def count_seconds(self) -> None:
        """Add the seconds since the last call."""
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now

    def history(self) -> History:
        """Return the run so far."""
        return History(
            checks=tuple(self.checks),
            best_step=self.best_step,
            stopped=self.stopped or "epochs",
            steps=self.step,
            images=self.images,
            seconds=self.seconds,
        )

    def payload(self) -> dict[str, Any]:
        """Return the state as a checkpoint stores it; collective with several processes."""
        self.count_seconds()
        own = {
            "rng": rng_state(self.device),
            "losses": self.losses.cpu(),
            "correct": self.correct.cpu(),
            "counts": list(self.counts),
            "teacher_logits": {step: rows.cpu() for step, rows in self.teacher_logits.items()},
        }
        return {
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "average": self.average.state_dict(),
            "checks": [asdict(check) for check in self.checks],
            **{name: getattr(self, name) for name in _STORED},
            "threads": torch.get_num_threads(),
            "processes": distributed.all_gather_object(own),
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Restore what `payload` returned.

        Raises:
            Exception: any kind, if something is missing or does not fit.
        """
        own = payload["processes"][distributed.rank()]
        load_state(self.model, payload["best_model"])  # checks that it fits
        load_state(self.model, payload["model"])
        self.optimizers.load_state_dict(payload["optimizers"])
        self.average.load_state_dict(payload["average"])
        self.losses.copy_(own["losses"])
        self.correct.copy_(own["correct"])
        self.counts = own["counts"]
        self.teacher_logits = {
            step: rows.to(self.device) for step, rows in own["teacher_logits"].items()
        }
        self.checks = [Check(**check) for check in payload["checks"]]
        for name in _STORED:
            setattr(self, name, payload[name])
        is_extended = self.stopped == "epochs" and self.step < self.total_steps
        if self.stopped == "interrupted" or is_extended:
            self.stopped = None
        self.history()  # checks types and ranges
        set_rng_state(self.device, own["rng"])
        if payload["threads"] != (now := torch.get_num_threads()):
            warnings.warn(
                f"the checkpoint was written with {payload['threads']} CPU threads, now there are "
                f"{now}: results may differ in rounding",
                stacklevel=4,
            )
        self._clock = time.perf_counter()
