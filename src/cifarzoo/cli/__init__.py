"""The command line; commands import torch when they run, so `cifarzoo --help` is fast."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv`, and exit with its code."""
    try:
        from cifarzoo.cli.app import app

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # for terminals without "×"
        app()
    except KeyboardInterrupt:  # while importing
        sys.exit(130)
