"""The command line; commands import torch when they run, so `cifarzoo --help` is fast."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv`, and exit with its code."""
    try:
        from cifarzoo.cli.app import app
        from cifarzoo.cli.console import replace_unencodable

        replace_unencodable()
        app()
    except KeyboardInterrupt:  # while importing
        sys.exit(130)
