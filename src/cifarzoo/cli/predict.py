"""`cifarzoo predict`: classify image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from cifarzoo.cli import options
from cifarzoo.cli.console import escape, log, percent, show_json, show_table
from cifarzoo.errors import InvalidValueError
from cifarzoo.recipe import TtaName

__all__ = ["predict_command"]


def predict_command(
    name: options.Name,
    images: Annotated[list[Path], Argument(metavar="IMAGE...", help="Image files.")],
    weights: options.Weights = "default",
    data: options.WeightsData = None,
    top: Annotated[int, Option(metavar="N", min=1, help="Number of classes per image.")] = 3,
    tta: Annotated[TtaName, Option(help="Average over test-time augmentations.")] = "none",
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    cards: options.Cards = None,
    json: options.Json = False,
) -> None:
    """Classify image files, with probabilities.

    Images are resized to 32×32 pixels; non-square images are centre-cropped.
    """
    import torch

    from cifarzoo.cli.trained import load_trained
    from cifarzoo.data import CLASS_NAMES
    from cifarzoo.data.image_file import read_image
    from cifarzoo.evaluation.predict import predict

    model, weights, data_name = load_trained(name, weights, data)
    pixels = {}
    for path in images:
        try:
            pixels[path] = read_image(path)
        except (InvalidValueError, OSError) as error:
            log(escape(f"error: {error}"))
    found = []
    if pixels:
        batch = torch.stack(list(pixels.values()))
        result = predict(model, batch, device=device, precision=precision, tta=tta)
        own = result.class_names if data is None else None
        classes, n = own or CLASS_NAMES[data_name], result.probabilities.shape[1]
        if len(classes) != n:
            raise InvalidValueError(
                f"{weights} has {n} classes and {data_name} {len(classes)}: expected another --data"
            )
        for path, row in zip(pixels, result.probabilities.tolist(), strict=True):
            best = sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1])[:top]
            found.append((str(path), best))
    if json:
        entries = [
            {"image": path, "predictions": [{"class": c, "probability": p} for c, p in best]}
            for path, best in found
        ]
        show_json(
            {"model": name, "weights": weights, "data": data_name, "tta": tta, "images": entries}
        )
    elif found:
        table = [(path, label, percent(p)) for path, best in found for label, p in best]
        show_table(("image", "class", "probability"), table, numbers=("probability",))
    if len(pixels) < len(set(images)):
        raise Exit(1)
