"""What a weights file says about itself, in its header."""

from __future__ import annotations

import json

__all__ = ["NOTES_KEY", "notes_on"]

NOTES_KEY = "cifarzoo"


def notes_on(*, model: str, data: str) -> dict[str, str]:
    """Give the metadata of a weights file: of what model, trained on what data.

    It is one entry, for safetensors keeps several in no fixed order, and the same weights are to
    be the same file.
    """
    return {NOTES_KEY: json.dumps({"model": model, "data": data})}
