"""What a weights file says about itself, in its header."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["NOTES_KEY", "notes_on", "read_notes"]

NOTES_KEY = "cifarzoo"


def notes_on(*, model: str, data: str) -> dict[str, str]:
    """Give the metadata of a weights file: of what model, trained on what data.

    It is one entry, for safetensors keeps several in no fixed order, and the same weights are to
    be the same file.
    """
    return {NOTES_KEY: json.dumps({"model": model, "data": data})}


def read_notes(path: Path) -> dict[str, str]:
    """Read what `notes_on` wrote, such text as there is; nothing of other or damaged files."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {}).get(NOTES_KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return {}
    if not isinstance(notes, dict):
        return {}
    return {name: text for name, text in notes.items() if isinstance(text, str)}
