"""The images of a batch that are learnt from: those that a small network beside finds hardest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cifarzoo.errors import wrong_kind
from cifarzoo.evaluation.score import check_labels, logits_of
from cifarzoo.hardware import autocast
from cifarzoo.spec import Recipe, Selection, over_epochs
from cifarzoo.training.fusion import fused_layers
from cifarzoo.training.optim import Optimizers

__all__ = ["Proxy", "Selector"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proxy:
    """The small network that chooses images, and how it is trained.

    Attributes:
        model: images (N,3,H,W) to logits (N,K), with the classes of the model that it chooses for.
            It is trained in place.
        recipe: its optimizer, groups, rates, schedule and label smoothing count; it is trained for
            as many epochs as the model that it chooses for, without validation.

    Raises:
        OptionError: one is something else.
    """

    model: nn.Module
    recipe: Recipe

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("model", self.model, nn.Module),
            ("recipe", self.recipe, Recipe),
        ):
            if not isinstance(value, kind):
                raise wrong_kind(f"proxy.{name}", value, f"a {kind.__name__}")


class Selector:
    """Chooses from one batch after another, and trains the proxy meanwhile.

    Args:
        selection: how many it chooses, and how often the proxy takes a step.
        proxy: on the device; it goes into training mode, and its norms see whole batches.
        epochs: of the run.
        steps_per_epoch: batches in an epoch.
        device: where the run is.
        dtype: that it is computed in.

    Raises:
        OptionError: the proxy's recipe does not fit its network.
    """

    def __init__(
        self,
        selection: Selection,
        proxy: Proxy,
        *,
        epochs: int,
        steps_per_epoch: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._selection = selection
        self._recipe = over_epochs(proxy.recipe, epochs)
        self._device, self._dtype, self._steps_per_epoch = device, dtype, steps_per_epoch
        self.model = proxy.model
        named = proxy.model.named_parameters()
        self._optimizers = Optimizers(self._recipe, named, steps_per_epoch)

    def chosen(self, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Give the images and labels whose losses are highest, in the order of the batch.

        Args:
            step: of the run, counted from 0.
            images: uint8 or float (N,3,H,W).
            labels: int64 (N,).
        """
        self.model.train()
        trains = step % self._selection.every == 0
        self._optimizers.set_rates(step)
        fused = fused_layers(self.model, self._device, self._dtype)
        with torch.set_grad_enabled(trains), fused:
            with autocast(self._device, self._dtype):
                logits = logits_of(self.model, images)
            if self._device.type == "cpu" or step % self._steps_per_epoch == 0:
                check_labels(labels, logits)  # on a GPU it would wait for every batch
            losses = nn.functional.cross_entropy(
                logits.float(),
                labels.long(),
                label_smoothing=self._recipe.label_smoothing,
                reduction="none",
            )
            n = max(1, round(self._selection.share * len(labels)))
            kept = losses.detach().topk(n).indices.sort().values
            if trains:
                self._optimizers.zero_grad()
                losses[kept].mean().backward()  # type: ignore[no-untyped-call]
                self._optimizers.step()
        return images[kept], labels[kept]

    @property
    def lr(self) -> float:
        """The learning rate of the proxy's recipe."""
        return self._recipe.lr

    def release(self) -> None:
        """Leave the proxy as a finished run leaves a model."""
        self._optimizers.release()
        self.model.eval()

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint keeps of it."""
        return {"model": self.model.state_dict(), "optimizers": self._optimizers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self._optimizers.load_state_dict(state["optimizers"])
