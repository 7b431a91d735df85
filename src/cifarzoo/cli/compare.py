"""`cifarzoo compare`: test whether two accuracies differ by more than chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Option

from cifarzoo.cli import options
from cifarzoo.cli.completion import complete_model
from cifarzoo.cli.console import say, show_json, show_table
from cifarzoo.errors import InvalidValueError

if TYPE_CHECKING:
    from cifarzoo.evaluation.compare import DesignName
    from cifarzoo.run import Run

__all__ = ["compare_command"]

_HELP = "Folder of the runs of several seeds; or NAME or NAME:TAG or NAME:FILE, a trained model."


def compare_command(
    a: Annotated[str, Argument(metavar="A", help=_HELP, autocompletion=complete_model)],
    b: Annotated[str, Argument(metavar="B", help="As A.", autocompletion=complete_model)],
    paired: Annotated[
        bool | None,
        Option(
            "--paired/--independent",
            help="Design of the test for runs; default: paired if both have the same seeds.",
        ),
    ] = None,
    data: options.WeightsData = None,
    root: options.Root = None,
    limit: options.Limit = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    no_download: options.NoDownload = False,
    cards: options.Cards = None,
    json: options.Json = False,
) -> None:
    """Test whether two methods, or two trained models, differ by more than chance.

    Folders of runs compare two methods by their test accuracies over the seeds. Two models are
    compared image by image on the test set: cifarzoo compare resnet20:standard resnet20:long
    """
    from cifarzoo.cli.trained import load_test, load_trained
    from cifarzoo.evaluation.compare import compare
    from cifarzoo.run import load_runs

    are_folders = [Path(side).is_dir() for side in (a, b)]
    if all(are_folders):
        runs = load_runs(a), load_runs(b)
        _require_same_images(*runs)
        designs: dict[bool | None, DesignName] = {True: "paired", False: "independent"}
        result = compare(*runs, design=designs.get(paired, "auto"))
    elif any(are_folders):
        other = b if are_folders[0] else a
        raise InvalidValueError(
            f"{other} is not a folder: expected two folders of runs, or two models such as "
            "NAME:FOLDER/weights.safetensors"
        )
    elif paired is not None:
        raise BadParameter("--paired and --independent: expected two folders of runs")
    else:
        (name_a, _, tag_a), (name_b, _, tag_b) = a.partition(":"), b.partition(":")
        model_a, _, data_a = load_trained(name_a, tag_a or "default", data)
        model_b, _, data_b = load_trained(name_b, tag_b or "default", data)
        if data_a != data_b:
            raise InvalidValueError(f"the weights are for {data_a} and {data_b}: expected --data")
        test = load_test(data_a, root=root, limit=limit, download=not no_download)
        result = compare(model_a, model_b, data=test, device=device, precision=precision)
    if json:
        show_json({"a": a, "b": b, "comparison": result, "verdict": result.verdict})
        return
    say(f"a: {a}")
    say(f"b: {b}")
    say()
    table = result.table()
    show_table(table.header, table.rows, numbers=table.numbers)
    if table.note:
        say()
        say(table.note)


def _require_same_images(a: list[Run], b: list[Run]) -> None:
    """Raise if the runs were scored on different test images."""
    one, other = a[0], b[0]  # `load_runs` checks the others
    if (one.data, one.limit) != (other.data, other.limit):
        raise InvalidValueError(
            f"the runs were scored on different images: {_images(one)} and {_images(other)}"
        )


def _images(run: Run) -> str:
    return run.data if run.limit is None else f"{run.data} with --limit {run.limit}"
