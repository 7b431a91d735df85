"""The command line: parse, call, print.

Nothing here is imported before it is needed: `cifarzoo --help` loads neither torch nor matplotlib.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        from cifarzoo.cli.app import app
        from cifarzoo.cli.console import survive_odd_encodings

        survive_odd_encodings()
        app()
    except KeyboardInterrupt:  # while the command line itself was loading
        sys.exit(130)
