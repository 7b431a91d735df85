"""`cifarzoo export`: write a model to a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import BadParameter, Option

from cifarzoo.cli import options
from cifarzoo.cli.console import interval, log, percent, say, show_json

__all__ = ["export_command"]

SUFFIXES = {"onnx": ".onnx", "onnx-int8": "-int8.onnx", "torch": ".pt2"}


def export_command(
    name: options.Name,
    to: Annotated[
        Literal["onnx", "onnx-int8", "torch"],
        Option(help="onnx-int8 has 8-bit weights; torch is a program of torch.export."),
    ] = "onnx",
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Default: the model's name, with .onnx or .pt2.")
    ] = None,
    weights: options.Weights = "default",
    batch: Annotated[
        int | None, Option(metavar="N", min=1, help="Images per call; default: any number.")
    ] = None,
    images: Annotated[
        Literal["uint8", "float"], Option(help="Pixels 0 to 255, or float32 in [0, 1].")
    ] = "uint8",
    dtype: Annotated[
        Literal["float32", "float16"], Option(help="Precision of --to onnx.")
    ] = "float32",
    data: options.WeightsData = None,
    root: options.Root = None,
    limit: options.Limit = None,
    no_download: options.NoDownload = False,
    cards: options.Cards = None,
    json: options.Json = False,
) -> None:
    """Export a model to ONNX or torch.export, with its preprocessing, in one file.

    onnx-int8 is calibrated on training images, and the file is scored on the test images.
    """
    from cifarzoo import export
    from cifarzoo.cli.trained import load_trained
    from cifarzoo.recipe import Recipe
    from cifarzoo.run import load_data

    if dtype != "float32" and to != "onnx":
        raise BadParameter(f"--dtype {dtype}: expected float32 with --to {to}")
    model, weights, data = load_trained(name, weights, data)
    path = out or Path(f"{name}{SUFFIXES[to]}")
    size: export.Batch = batch or "dynamic"
    if to == "onnx":
        found = export.to_onnx(model, path, batch=size, images=images, dtype=dtype)
    elif to == "torch":
        found = export.to_torch_export(model, path, batch=size, images=images)
    else:
        loaders = load_data(data, Recipe(), root=root, limit=limit, download=not no_download)
        found = export.to_onnx_int8(model, path, loaders, batch=size, images=images)
    if json:
        show_json(
            {
                "path": str(found.path),
                "bytes": found.path.stat().st_size,
                "largest_difference": found.largest_difference,
                "test": found.test,
                "metadata": found.metadata,
            }
        )
        return
    say(f"{found.path}: {found.path.stat().st_size:,} bytes, weights {weights}")
    if found.largest_difference is None:
        log("not compared with the model: onnxruntime is not installed")
    else:
        say(f"logits differ by at most {found.largest_difference:.2g} on random images")
    if found.test is not None:
        accuracy, low_high = percent(found.test.accuracy), interval(found.test.interval)
        say(f"test accuracy {accuracy} (95 % interval {low_high})")
