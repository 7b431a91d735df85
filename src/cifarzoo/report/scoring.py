"""Scores over many images that go on where they were interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from cifarzoo.data.images import labelled_batch
from cifarzoo.evaluation.evaluate import Evaluation, evaluation_of
from cifarzoo.evaluation.predict import scored
from cifarzoo.files import replacing
from cifarzoo.spec import TtaName

__all__ = ["KEEP_SECONDS", "evaluate_in_parts"]

KEEP_SECONDS = 30.0  # a killed process loses no more


def evaluate_in_parts(
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    path: Path,
    *,
    of: str,
    device: str | torch.device,
    tta: TtaName = "none",
) -> Evaluation:
    """Score a model in float32, and keep its logits, batch by batch, until the file is deleted.

    Args:
        model: as `evaluate` takes it.
        data: batches of (images, labels), each time the same ones.
        path: of the file of logits. One that is damaged or of something else is written anew.
        of: what is scored: the hash of its weights.
        device: as `evaluate` takes it.
        tta: likewise.

    Raises:
        KeyboardInterrupt: Ctrl-C; the same call goes on.
        OSError: the file cannot be written.
        And what `evaluate` raises.
    """
    said, kept = _read(path, of), time.monotonic()
    truth: list[Tensor] = []
    try:
        for images, labels in map(labelled_batch, data):
            batch = str(len(truth))
            if batch not in said or len(said[batch]) != len(labels):
                pair = [(images, labels)]
                logits, _ = scored(model, pair, device=device, precision="float32", tta=tta)
                said[batch] = logits.cpu()
            truth.append(labels.long().cpu())
            if time.monotonic() - kept > KEEP_SECONDS:
                _write(path, said, of)
                kept = time.monotonic()
    finally:
        if said:
            _write(path, said, of)
    if not truth:
        scored(model, data, device=device, precision="float32", tta=tta)  # says that it is empty
    logits = torch.cat([said[str(i)] for i in range(len(truth))])
    return evaluation_of(logits, torch.cat(truth), tta=tta)


def _read(path: Path, of: str) -> dict[str, Tensor]:
    """Give the logits (N,K) of each batch that was scored."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("of") != of:
                return {}
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}


def _write(path: Path, said: dict[str, Tensor], of: str) -> None:
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(said, temporary, metadata={"of": of})
