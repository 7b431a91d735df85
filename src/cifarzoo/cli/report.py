"""`cifarzoo report`."""


def report_command() -> None:
    """Run every task of the report."""
