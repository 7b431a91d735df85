"""Training of one model by several processes, with `torchrun` and `torch.distributed`.

All functions but `rank`, `world_size`, `is_rank_zero` and `shard` are collective: every process has
to call them in the same order. With a single process there is no communication.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from cifarzoo.data.loader import Shardable
from cifarzoo.errors import InvalidValueError

__all__ = [
    "all_gather_object",
    "broadcast_state",
    "gather_rows",
    "is_rank_zero",
    "on_rank_zero",
    "process_group",
    "rank",
    "shard",
    "sum_over_processes",
    "world_size",
]

T = TypeVar("T")


def _is_initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return the index of this process, from 0."""
    return distributed.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if _is_initialized() else 1


def is_rank_zero() -> bool:
    """Return whether this process writes files, shows progress and runs callbacks."""
    return rank() == 0


def all_gather_object(value: T) -> list[T]:
    """Return the values of all processes, in rank order."""
    values = [value] * world_size()
    if world_size() > 1:
        distributed.all_gather_object(values, value)
    return values


def on_rank_zero(work: Callable[[], T]) -> T:
    """Call a function in the first process; all processes get its result, or its error."""
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]  # result, error
    if is_rank_zero():
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    distributed.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return cast("T", outcome[0])


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, without gradients."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    distributed.all_reduce(total)
    return total


def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows of all processes in rank order; their number may differ."""
    if world_size() == 1:
        return tensor
    return torch.cat(all_gather_object(tensor.detach().cpu())).to(tensor.device)


def broadcast_state(model: nn.Module) -> None:
    """Copy the weights and buffers of the first process to all others."""
    if world_size() > 1:
        for value in model.state_dict().values():
            if isinstance(value, Tensor):
                distributed.broadcast(value, src=0)


def shard(loader: T) -> T:
    """Return this process's share of every batch of a loader.

    A loader that has no `shard`, or fewer images than there are processes, is returned unchanged.
    """
    if world_size() == 1 or not isinstance(loader, Shardable):
        return loader
    try:
        shards = [loader.shard(i, world_size()) for i in range(world_size())]
    except InvalidValueError:  # some process would have no image
        return loader
    return cast("T", shards[rank()])


@contextlib.contextmanager
def process_group(device: str | torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started; do nothing without `torchrun`.

    Args:
        device: as in `fit`. With "auto" and "cuda", each process uses one GPU.
    """
    launched = distributed.is_available() and distributed.is_torchelastic_launched()
    if not launched or distributed.is_initialized():
        yield
        return
    on_gpus = str(device) in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    try:
        yield
    finally:
        # A DDP model in a reference cycle would keep the group's threads alive until the
        # interpreter exits, where they can abort the process.
        gc.collect()
        distributed.destroy_process_group()
