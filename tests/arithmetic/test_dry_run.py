from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cifarzoo.arithmetic.dry_run import dry_run
from cifarzoo.errors import ShapeError


class Restless(nn.Module):
    """Changes its buffers, adds one, and draws random numbers, even in evaluation mode."""

    calls: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.seen = torch.rand(2)
        self.register_buffer("extra", torch.ones(1))
        if images.shape[-1] == 1:
            raise RuntimeError("too small")
        return images * self.calls


def net() -> nn.Sequential:
    frozen = nn.BatchNorm2d(4).eval()
    return nn.Sequential(nn.Conv2d(3, 4, 3), frozen, nn.Dropout(), Restless())


@pytest.mark.parametrize("size", [8, 1])
def test_the_model_is_left_as_it_was(size: int) -> None:
    model = net() if size == 8 else nn.Sequential(Restless()).train()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = {name: id(value) for name, value in model.named_buffers()}
    torch.manual_seed(7)
    random = torch.get_rng_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    if size == 8:
        dry_run(model, (3, size, size))
    else:
        with pytest.raises(ShapeError, match="too small"):
            dry_run(model, (3, size, size))
    assert [module.training for module in model.modules()] == modes
    assert {name: id(value) for name, value in model.named_buffers()} == buffers
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_backward_pass_can_follow() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    loss = model(torch.rand(2, 3, 8, 8)).sum()
    dry_run(model, (3, 8, 8))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_modules_in_the_order_in_which_they_start() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(4, 5, 1)
            self.first = nn.Conv2d(3, 4, 1)
            self.never = nn.Linear(2, 2)

        def forward(self, images: Tensor) -> tuple[dict[str, Tensor], int]:
            return {"maps": self.last(self.first(images))}, 3

    seen = dry_run(Backwards(), (3, 6, 6))
    assert list(seen) == ["", "first", "last"]
    assert seen[""].output_shape == (5, 6, 6)
    assert (seen[""].macs, seen["first"].macs, seen["last"].macs) == (0, 36 * 12, 36 * 20)


def test_the_models_own_type_is_used() -> None:
    seen = dry_run(nn.Conv2d(3, 4, 3).double(), (3, 8, 8))
    assert seen[""].output_shape == (4, 6, 6)
    assert dry_run(nn.Conv2d(3, 4, 3, device="meta"), (3, 8, 8)) == seen
