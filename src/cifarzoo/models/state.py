"""Putting a state dict into a module, with an error that says what does not fit."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cifarzoo.errors import WeightsError

__all__ = ["load_state"]

SHOWN = 3


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], *, source: str, optional: str = ""
) -> None:
    """Copy every tensor of a state dict into a module; nothing is changed if one does not fit.

    Args:
        module: what the tensors are for.
        state: name to tensor, as `module.state_dict()` gives it.
        source: where it comes from, for the error.
        optional: a prefix of names that may be missing; those stay as they are.

    Raises:
        WeightsError: names are missing or unexpected, or a shape differs.
    """
    own: dict[str, Tensor] = module.state_dict()
    problems = [
        *_names("missing", [name for name in own if name not in state], optional),
        *_names("unexpected", [name for name in state if name not in own], ""),
        *_shapes(own, state),
    ]
    if problems:
        hint = ""
        if all(name.startswith("module.") for name in state):
            hint = "; it was saved from a DataParallel: take 'module.' off its names"
        raise WeightsError(f"{source} does not fit the model: {'; '.join(problems)}{hint}")
    module.load_state_dict({**own, **state})


def _names(what: str, names: list[str], optional: str) -> list[str]:
    if optional:
        names = [name for name in names if not name.startswith(optional)]
    if not names:
        return []
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what} {', '.join(names[:SHOWN])}{rest}"]


def _shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    wrong = [name for name in own if name in state and own[name].shape != state[name].shape]
    shown = [
        f"{name} has shape {tuple(state[name].shape)}, needed is {tuple(own[name].shape)}"
        for name in wrong[:SHOWN]
    ]
    return shown + ([f"{len(wrong) - SHOWN} more shapes differ"] if len(wrong) > SHOWN else [])
