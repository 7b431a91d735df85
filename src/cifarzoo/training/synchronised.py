"""Batch norms that see the batch of all processes, so that a share of it trains as the whole does.

torch's own `SyncBatchNorm` does the same on GPUs alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cifarzoo.errors import OptionError, ShapeError
from cifarzoo.processes import Team

__all__ = ["synchronised_norms"]

_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


@contextlib.contextmanager
def synchronised_norms(model: nn.Module, team: Team) -> Iterator[None]:
    """Let a model's batch norms take the moments of all processes' images, in the block.

    Args:
        model: changed in the block only, by a `forward` of its own in its batch norms.
        team: of one process changes nothing.

    Raises:
        OptionError: a batch norm does something else than torch's, which would be lost.
    """
    norms: list[_BatchNorm] = []
    if not team.is_alone:
        norms = [each for each in model.modules() if isinstance(each, _BatchNorm)]
    for norm in norms:
        if type(norm).forward not in _FORWARDS:
            raise OptionError(
                f"{type(norm).__name__} is a batch norm with a forward of its own, which cannot "
                "see the images of other processes; use torch's, or one process"
            )
    with contextlib.ExitStack() as stack:
        for norm in norms:
            if "forward" not in vars(norm):
                norm.forward = _Synchronised(norm)  # type: ignore[assignment, method-assign]
                stack.callback(vars(norm).pop, "forward", None)
        yield


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        """Add."""
        del ctx
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's context
        """Add the gradients."""
        del ctx
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _sum(tensor: Tensor) -> Tensor:
    return cast("Tensor", _Sum.apply(tensor))


@dataclass(frozen=True, slots=True)
class _Synchronised:
    """What a batch norm does, with the moments of all processes' maps."""

    norm: _BatchNorm

    def __call__(self, maps: Tensor) -> Tensor:
        norm = self.norm
        if not norm.training:
            return type(norm).forward(norm, maps)
        if maps.ndim < 2:
            raise ShapeError(f"maps have shape {tuple(maps.shape)}; needed are (N,C,...)")
        axes = [0, *range(2, maps.ndim)]
        shape = [1, -1, *[1] * (maps.ndim - 2)]
        values = maps.to(torch.promote_types(maps.dtype, torch.float32))
        n_here = torch.full((1,), maps.numel() / maps.shape[1], device=maps.device)
        sums = _sum(torch.cat([values.sum(axes), n_here]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / n
        self._track(mean.detach(), variance.detach() * n / (n - 1))
        scale = (variance + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        result = centred * scale.view(shape)
        if norm.bias is not None:
            result = result + norm.bias.view(shape)
        return result.to(maps.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running moments, as torch's batch norm does: of the variance the unbiased."""
        norm = self.norm
        if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
            return
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        momentum = norm.momentum
        share = 1 / float(norm.num_batches_tracked) if momentum is None else momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
        norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)
