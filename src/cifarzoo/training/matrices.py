"""Muon for weights of any shape: torch's own takes matrices only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError

__all__ = ["muon"]


def muon(groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
    """Build torch's Muon for tensors of two or more dimensions.

    All dimensions but the first are taken as one: a convolution's row is one filter.

    Args:
        groups: of parameters of two or more dimensions, with their options, as torch's optimizers
            take them.

    Raises:
        OptionError: this torch has no Muon, or a parameter is no matrix in memory.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise OptionError(
            f"optimizer is 'muon', which torch {torch.__version__} does not have; torch 2.9 does"
        )

    class MuonOfTensors(torch.optim.Muon):
        """Muon over matrices that share their memory with the model's tensors."""

        def __init__(self) -> None:
            tensors = [tensor for group in groups for tensor in group["params"]]
            self._pairs = {tensor: _Matrix(tensor) for tensor in tensors}
            super().__init__(
                [
                    {**g, "params": [self._pairs[tensor].matrix for tensor in g["params"]]}
                    for g in groups
                ]
            )

        def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
            for tensor, pair in self._pairs.items():
                pair.require_shared(tensor)
                pair.matrix.grad = None if tensor.grad is None else pair.of(tensor.grad)
            loss: float | None = super().step(closure)  # type: ignore[no-untyped-call]
            return loss

    return MuonOfTensors()


class _Matrix:
    """A tensor (out, ...) as a matrix (out, rest), in the order that its memory has."""

    def __init__(self, tensor: Tensor) -> None:
        last = tensor.ndim == 4 and not tensor.is_contiguous()
        self._order = (0, 2, 3, 1) if last else tuple(range(tensor.ndim))
        self.matrix = nn.Parameter(self.of(tensor.detach()))
        self.require_shared(tensor)

    def require_shared(self, tensor: Tensor) -> None:
        """Refuse a tensor whose memory is another: its matrix would be trained, and it would not.

        Raises:
            OptionError: the memory is another.
        """
        if self.matrix.data_ptr() != tensor.data_ptr():
            raise OptionError(
                f"a parameter of shape {tuple(tensor.shape)} has strides {tensor.stride()}, or was "
                "moved in memory during the run; Muon needs it contiguous or channels_last, and "
                "left where it is"
            )

    def of(self, tensor: Tensor) -> Tensor:
        """Give a tensor of this shape as a matrix."""
        return tensor.permute(self._order).flatten(1)
