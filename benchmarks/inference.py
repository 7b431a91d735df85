"""Latency and throughput of the models with weights, run in several ways.

    pip install "cifarzoo[export]" openvino
    python benchmarks/inference.py [--models tiny_m,resnet20] [--threads 1,2] [--repeats 5]

Measures one uint8 image and batches of 256 as `predict` runs them (eager), compiled by
`torch.compile`, and exported to ONNX and run by ONNX Runtime, with float and with 8-bit weights,
and OpenVINO. Every way but the 8-bit one is checked against eager float32. The ways take turns in
one process per model and number of threads; a figure is the median over the turns of the median
within a turn. `benchmarks/export.py` scores the ONNX files.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from interleaved import make_parser, measure_in_process, write
from torch import Tensor, nn

import cifarzoo as zoo
from cifarzoo.device import autocast, resolve_precision

Run: TypeAlias = Callable[[Tensor], Tensor]

EAGER = "eager"
BATCH_SIZES = (1, 256)
SECONDS_PER_TURN = 0.3
FILES = {"onnxruntime": "model.onnx", "onnxruntime_int8": "int8.onnx"}
CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.2}  # of probabilities


def export(model: zoo.ImageClassifier, loaders: zoo.Loaders, folder: Path) -> None:
    """Write the ONNX files."""
    zoo.export.to_onnx(model, folder / FILES["onnxruntime"])
    train = zoo.Loaders(loaders.train)
    zoo.export.to_onnx_int8(model, folder / FILES["onnxruntime_int8"], train)


def make_ways(model: nn.Module, folder: Path) -> dict[str, Run]:
    """Return the ways to run a model in evaluation mode."""
    channels_last = {"memory_format": torch.channels_last}
    ways: dict[str, Run] = {
        EAGER: model,
        "channels_last": lambda images: model(images.contiguous(**channels_last)),
        "compile": torch.compile(model, dynamic=False),
    }
    if resolve_precision("auto", CPU) == torch.bfloat16:
        ways["bfloat16"] = partial(_in_bfloat16, model)
        ways["compile_bfloat16"] = partial(_in_bfloat16, ways["compile"])
    ways |= {way: _onnxruntime(folder / name) for way, name in FILES.items()}
    return ways | {"openvino": _openvino(folder / FILES["onnxruntime"])}


def _in_bfloat16(model: Run, images: Tensor) -> Tensor:
    with autocast(CPU, torch.bfloat16, None):
        return model(images.contiguous(memory_format=torch.channels_last)).float()


def _onnxruntime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def _openvino(path: Path) -> Run:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda images: torch.from_numpy(request.infer([images.numpy()])[0].copy())


def measure(name: str, options: Namespace) -> dict[str, Any]:
    """Return the milliseconds of each way by batch size, turn by turn."""
    model = zoo.build_model(name, weights="default")
    images = torch.randint(256, (max(BATCH_SIZES), 3, 32, 32), dtype=torch.uint8)
    turns, seconds = (1, 0.0) if options.quick else (options.repeats, SECONDS_PER_TURN)
    found: dict[str, Any] = {"params": zoo.count_params(model), "milliseconds": {}}
    loaders = zoo.cifar10_loaders(root=options.data, download=False)
    with tempfile.TemporaryDirectory() as name_of_folder, torch.inference_mode():
        folder = Path(name_of_folder)
        export(model, loaders, folder)
        ways = make_ways(model, folder)
        differences = {}
        expected = model(images).softmax(1)
        for way, run in ways.items():
            differences[way] = float((run(images).softmax(1) - expected).abs().max())
            dtype = torch.bfloat16 if "bfloat16" in way else torch.float32
            if "int8" not in way and differences[way] > TOLERANCE[dtype]:
                sys.exit(f"{name}, {way}: probabilities differ by {differences[way]:.3g}")
        for size in BATCH_SIZES:
            batch = images[:size]
            times: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(1 + turns):  # the first one is not counted
                for way, run in ways.items():
                    took = _median_seconds(run, batch, seconds if turn else 0.0)
                    times[way] += [1000 * took] if turn else []
            found["milliseconds"][size] = times
    return {**found, "largest_difference": differences}


def _median_seconds(run: Run, images: Tensor, seconds: float) -> float:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        began = time.perf_counter()
        run(images)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Measure every model, print the result, and write results/benchmark-inference.json."""
    parser = make_parser(__doc__, "benchmark-inference.json")
    with_weights = [name for name in zoo.list_models() if zoo.model_card(name).weights]
    parser.add_argument("--models", default=",".join(with_weights), help="comma-separated")
    parser.add_argument("--threads", default="1,2", help="comma-separated numbers of threads")
    options = parser.parse_args()
    if options.measure:
        name, _, threads = options.measure.partition(":")
        torch.set_num_threads(int(threads))
        print(json.dumps(measure(name, options), separators=(",", ":")))
        return
    arguments = ("--repeats", str(options.repeats))
    models: dict[str, dict[str, Any]] = {}
    for name in options.models.split(","):
        for threads in options.threads.split(","):
            text = measure_in_process(__file__, f"{name}:{threads}", options, *arguments)
            models.setdefault(name, {})[threads] = json.loads(text)
            print(f"{name}, {threads} threads", flush=True)
    write(options.out, {"models": models})


if __name__ == "__main__":
    main()
