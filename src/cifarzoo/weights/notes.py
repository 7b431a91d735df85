"""What a weights file says about itself, in its header."""

from __future__ import annotations

import json
from pathlib import Path

from cifarzoo.models.state import NOTES_KEY, notes_in

__all__ = ["NOTES_KEY", "notes_on", "read_notes"]


def notes_on(*, model: str, data: str, tag: str | None = None) -> dict[str, str]:
    """Give the metadata of a weights file: of what model, trained on what data, for what tag.

    It is one entry, for safetensors keeps several in no fixed order, and the same weights are to
    be the same file.
    """
    notes = {"model": model, "data": data} | ({} if tag is None else {"tag": tag})
    return {NOTES_KEY: json.dumps(notes)}


def read_notes(path: Path) -> dict[str, str]:
    """Read what `notes_on` wrote, such text as there is; nothing of other or damaged files."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            return notes_in(file.metadata())
    except (SafetensorError, OSError):
        return {}
