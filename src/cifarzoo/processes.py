"""Several processes that work on one run, by torch's own `torch.distributed`.

A team is what `torchrun` started and `init_process_group` joined. Without one, everything here is
that of a team of one, and costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, distributed, nn

from cifarzoo.errors import TOLD_BY_THE_FIRST, CifarZooError, OptionError

__all__ = ["Shardable", "Team", "is_launched", "joined", "this_team"]

T = TypeVar("T")


@runtime_checkable
class Shardable(Protocol):
    """A loader that can be cut into one share of every batch for each process."""

    def shard(self, index: int, count: int) -> Any:  # noqa: ANN401 - the loader's own kind
        """Give the share of one process."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The processes of one run, as one of them sees it.

    Every method but the properties is collective: all processes have to call it, in the same order.

    Attributes:
        rank: of this process, 0 to size - 1.
        size: number of processes.
        talk: the group in which numbers of the CPU go round; None where there is one process.
    """

    rank: int = 0
    size: int = 1
    talk: distributed.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and shows."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def sums(self, numbers: Sequence[int]) -> list[int]:
        """Add whole numbers over the processes, without a word to a GPU."""
        if self.is_alone:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.int64)
        distributed.all_reduce(total, group=self.talk)
        return [int(each) for each in total]

    def total(self, tensor: Tensor) -> Tensor:
        """Give the sum of a tensor over the processes, on its device; no gradients."""
        if self.is_alone:
            return tensor
        found = tensor.detach().clone()
        distributed.all_reduce(found, group=self.talk if found.device.type == "cpu" else None)
        return found

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """Give every process's tensor, in the order of the ranks; rows may differ in number."""
        if self.is_alone:
            return [tensor]
        lengths = self.everyones(len(tensor))
        padded = tensor.new_zeros((max(lengths), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        found = [torch.empty_like(padded) for _ in lengths]
        distributed.all_gather(found, padded)
        return [each[:n] for each, n in zip(found, lengths, strict=True)]

    def everyones(self, value: T) -> list[T]:
        """Give what every process says, in the order of the ranks."""
        if self.is_alone:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value, group=self.talk)
        return found

    def leaders(self, value: T) -> T:
        """Give what the leading process says."""
        if self.is_alone:
            return value
        said: list[Any] = [value]
        distributed.broadcast_object_list(said, src=0, group=self.talk)
        return said[0]  # type: ignore[no-any-return]

    def led(self, work: Callable[[], T]) -> T:
        """Let the leading process do something alone, and all have its result, or its error.

        Raises:
            Exception: what the work raised, in every process.
        """
        if self.is_alone:
            return work()
        value, error = None, None
        if self.leads:
            try:
                value = work()
            except Exception as caught:
                error = caught
        value, error = self.leaders((value, error))
        if error is not None:
            if not self.leads:
                error.add_note(TOLD_BY_THE_FIRST)
            raise error
        return value  # type: ignore[return-value]

    def share(self, loader: T) -> T:
        """Give this process's share of a loader's batches; all, where not everyone would have some.

        Not collective.
        """
        if self.is_alone or not isinstance(loader, Shardable):
            return loader
        try:
            shares = [loader.shard(rank, self.size) for rank in range(self.size)]
        except CifarZooError:  # fewer images than processes
            return loader
        return shares[self.rank]  # type: ignore[no-any-return]

    def spread(self, model: nn.Module) -> None:
        """Give every process the first one's weights and buffers, on their device."""
        if not self.is_alone:
            for tensor in model.state_dict().values():
                if isinstance(tensor, Tensor):
                    distributed.broadcast(tensor, src=0)

    def wrapped(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Give the model as torch's `DistributedDataParallel`, which averages its gradients."""
        if self.is_alone:
            return model
        places = None
        if device.type == "cuda":
            places = [torch.cuda.current_device() if str(device) == "cuda" else device.index]
        return nn.parallel.DistributedDataParallel(model, device_ids=places)


def this_team() -> Team:
    """Give the team that this process is in: that of the default process group, if there is one.

    Collective where there are several processes.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return Team()
    size = distributed.get_world_size()
    if size == 1:
        return Team()
    return Team(rank=distributed.get_rank(), size=size, talk=_talk(distributed.group.WORLD))


@functools.lru_cache(maxsize=1)
def _talk(group: distributed.ProcessGroup) -> distributed.ProcessGroup:
    """Give a group that carries numbers of the CPU, which NVIDIA's NCCL does not."""
    if "gloo" in distributed.get_backend_config(group):
        return group
    made = distributed.new_group(backend="gloo")
    assert isinstance(made, distributed.ProcessGroup)  # every process is a member
    return made


def is_launched() -> bool:
    """Tell whether `torchrun` started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


@contextlib.contextmanager
def joined(device: str | torch.device) -> Iterator[Team]:
    """Join the processes that `torchrun` started, in the block; alone where it did not.

    Args:
        device: that is asked for; of several GPUs each process takes one.

    Raises:
        OptionError: there are more processes on this machine than GPUs, or they would share one.
    """
    if not is_launched() or distributed.is_initialized():
        yield this_team()
        return
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and str(device) not in ("auto", "cpu", "cuda"):
        raise OptionError(
            f"device is {str(device)!r}; allowed for several processes: cpu, or cuda, of which "
            "each takes one (CUDA_VISIBLE_DEVICES chooses among them)"
        )
    on_gpus = str(device) in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpus:
        number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= there:
            raise OptionError(
                f"process {number} of this machine has no GPU, for it has {there}; start at most "
                "that many (--nproc-per-node), or use --device cpu"
            )
        torch.cuda.set_device(number)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    try:
        yield this_team()
    finally:
        # What still holds the group, a wrapped model in a cycle, would let its threads live on into
        # the interpreter's end, where one that looks for the interpreter aborts the process.
        gc.collect()
        distributed.destroy_process_group()
