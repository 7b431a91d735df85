"""Size and test accuracy of ONNX files, with weights in float32, float16 and eight bits.

    pip install "cifarzoo[export]"
    python benchmarks/export.py [--models tiny_m,resnet20] [--data ROOT]

ONNX Runtime scores each file on all test images. `benchmarks/inference.py` measures how fast the
files are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnxruntime
from interleaved import make_parser, write

import cifarzoo as zoo

QUICK_IMAGES = 500


def export_all(name: str, loaders: zoo.Loaders, folder: Path) -> dict[str, zoo.export.Exported]:
    """Export a model with its best weights, in every precision."""
    model = zoo.build_model(name, weights="default")
    train = zoo.Loaders(loaders.train)  # the files are scored in the same way, below
    return {
        "float32": zoo.export.to_onnx(model, folder / "float32.onnx"),
        "float16": zoo.export.to_onnx(model, folder / "float16.onnx", dtype="float16"),
        "int8": zoo.export.to_onnx_int8(model, folder / "int8.onnx", train),
    }


def measure(found: zoo.export.Exported, test: zoo.TensorLoader) -> dict[str, Any]:
    """Return size, accuracy and largest difference of a logit for a file."""
    session = onnxruntime.InferenceSession(found.path, providers=["CPUExecutionProvider"])
    score = zoo.evaluate(session, test, progress=False)
    return {
        "bytes": found.path.stat().st_size,
        "accuracy": score.accuracy,
        "interval": score.interval,
        "largest_difference": found.largest_difference,
    }


def main() -> None:
    """Measure every model, print the result, and write results/benchmark-export.json."""
    parser = make_parser(__doc__, "benchmark-export.json")
    with_weights = [name for name in zoo.list_models() if zoo.model_card(name).weights]
    parser.add_argument("--models", default=",".join(with_weights), help="comma-separated")
    options = parser.parse_args()
    loaders = zoo.cifar10_loaders(root=options.data, download=False)
    test = loaders.test.first(QUICK_IMAGES) if options.quick else loaders.test
    models: dict[str, dict[str, Any]] = {}
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            exported = export_all(name, loaders, Path(folder))
            files = {kind: measure(each, test) for kind, each in exported.items()}
        params = zoo.count_params(zoo.build_model(name))
        models[name] = {"params": params, "files": files}
        sizes = (f"{kind} {file['bytes']:,} bytes" for kind, file in files.items())
        accuracies = (f"{file['accuracy']:.2%}" for file in files.values())
        print(name, *sizes, *accuracies, sep=", ", flush=True)
    write(options.out, {"images": test.n, "models": models})


if __name__ == "__main__":
    main()
