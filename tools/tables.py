"""Write the tables in README.md and the documentation from results/ and the packaged weights.

    python tools/tables.py            # write the tables
    python tools/tables.py --check    # exit with code 1 if a table is out of date

A table is written between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is a key of `TABLES`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from experiments import EXPERIMENTS, Experiment
from standings import (
    RESULTS,
    measured,
    minutes,
    percent,
    read_folder,
    scores_table,
    standings,
    table,
    trained_on,
)

import cifarzoo as zoo
from cifarzoo.card import STANDARD
from cifarzoo.evaluation.statistics import paired_difference
from cifarzoo.record import RunRecord

__all__ = ["TABLES", "filled", "main"]

_Groups: TypeAlias = Mapping[str, Sequence[RunRecord]]
_Parts: TypeAlias = tuple[Sequence[str], Iterable[Sequence[object]], str]  # header, rows, note

ROOT = Path(__file__).parents[1]
NETWORK_BYTES_PER_SECOND = 10e9 / 8
COMPUTED_MACHINES = (2, 4, 8, 16)
SIDE = 32  # of CIFAR's images, in pixels
CURVES = ("baseline", "model1", "model2", "best")
_WAYS = {  # to run a model, in benchmarks/inference.py
    "eager": "PyTorch",
    "bfloat16": "bfloat16",
    "compile": "compiled",
    "compile_bfloat16": "compiled, bfloat16",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime_int8": "ONNX Runtime, int8",
    "openvino": "OpenVINO",
}
REPORT = (*CURVES, "resnet18_transfer", "efficientnet_lite0_transfer")


def _results() -> str:
    """Return the table of the report's networks."""
    runs = read_folder(RESULTS)
    shown = [(EXPERIMENTS[key], runs[key]) for key in REPORT if key in runs]
    rows = [
        (
            experiment.title,
            f"{group[0].params:,}",
            measured([run.test for run in group]),
            _reported(experiment),
            len(group),
        )
        for experiment, group in shown
    ]
    header = ("network", "parameters", "test accuracy", "in the report", "seeds")
    every = [run for _, group in shown for run in group]
    processors = " and ".join(sorted({run.provenance.processor for run in every}))
    note = (
        "Single view; several seeds: mean ± standard deviation, one seed: 95 % interval of the "
        "test set.\nThe state was selected on the validation split. "
    )
    return _written((header, rows, note), f"{processors} ({trained_on(every)})")


def _reported(experiment: Experiment) -> str:
    return "–" if experiment.reported is None else f"{experiment.reported.test:.2%}"


def _models() -> str:
    """Return the table of the weights in the package by data set, the most accurate first."""
    packaged = (each for each in standings() if each.weights)
    found = sorted(packaged, key=lambda each: (each.data, -each.mean))
    rows = [
        (
            f"`{each.card.name}`",
            f"`{each.tag}`",
            f"`{each.data}`",
            f"{each.params:,}",
            each.single_view,
            each.with_tta,
            len(each.runs),
            minutes(each.runs),
            trained_on(each.runs),
        )
        for each in found
    ]
    accuracies = ("single view", "with TTA")
    sizes = ("data set", "parameters")
    header = ("model", "weights", *sizes, *accuracies, "seeds", "minutes", "trained on")
    return table(header, rows, left=3)


def _sprint() -> str:
    found = [each for each in standings() if each.card.family == "sprint" and each.tag == STANDARD]
    rows = [
        (
            f"`{each.card.name}`",
            f"{each.params:,}",
            each.single_view,
            each.with_tta,
            len(each.runs),
            minutes(each.runs),
            trained_on(each.runs),
        )
        for each in sorted(found, key=lambda each: each.params)
    ]
    accuracies = ("single view", "with TTA")
    return table(("network", "parameters", *accuracies, "seeds", "minutes", "trained on"), rows)


def _duration(runs: Sequence[RunRecord]) -> dict[str, str]:
    return {"epochs": str(runs[0].recipe.epochs), "minutes": f"{float(minutes(runs)):.0f}"}


def _image_sizes(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return the image sizes by epoch, and the pixels relative to an epoch of 32×32."""
    recipe = runs[0].recipe
    sides = [recipe.image_size(epoch) or SIDE for epoch in range(recipe.epochs)]
    pixels = sum((side / SIDE) ** 2 for side in sides)
    return {"image sizes by epoch": ", ".join(map(str, sides)), "pixels": f"{pixels:.2f}"}


def _recipes(
    groups: _Groups, describe: Callable[[Sequence[RunRecord]], dict[str, str]] = _duration
) -> _Parts:
    header: list[str] = []
    networks: dict[str, dict[str, dict[int, RunRecord]]] = {}
    for key, group in groups.items():
        recipe = key.removeprefix(f"{group[0].name}_")
        networks.setdefault(group[0].name, {})[recipe] = {run.seed: run for run in group}
    rows = []
    for name, compared in sorted(networks.items()):
        scores = {
            recipe: {seed: run.val.accuracy for seed, run in group.items() if run.val}
            for recipe, group in compared.items()
        }
        means = {recipe: statistics.fmean(scores[recipe].values()) for recipe in scores}
        first = max(means, key=means.__getitem__)
        for recipe in sorted(means, key=lambda recipe: -means[recipe]):
            group, accuracies = [*compared[recipe].values()], [*scores[recipe].values()]
            behind = ("", "") if recipe == first else _behind(scores[first], scores[recipe])
            described = describe(group)
            header = [*described]
            figures = (*described.values(), percent(accuracies), len(group), *behind)
            rows.append((f"`{name}`, {recipe}", *figures))
    columns = (*header, "validation accuracy", "seeds", "points behind", "by seed")
    note = (
        "Mean ± standard deviation over the seeds, on the validation split. Points behind the "
        "first recipe, with the\n95 % interval of a paired t-test over the seeds that both have. "
    )
    return ("network, recipe", *columns), rows, note


def _behind(best: Mapping[int, float], other: Mapping[int, float]) -> tuple[str, str]:
    """Format how many points a recipe is behind: the mean with its interval, and by seed."""
    seeds = sorted(best.keys() & other.keys())
    if not seeds:
        return "no seed in common", ""
    found = paired_difference([best[seed] for seed in seeds], [other[seed] for seed in seeds])
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" ({100 * found.low:.2f} to {100 * found.high:.2f})"
    each = ", ".join(f"{100 * (best[seed] - other[seed]):+.2f}" for seed in seeds)
    return f"{100 * found.mean:+.2f}{interval}", each


def _study(folder: Path) -> str:
    """Return a table of image sizes and accuracies, which no kind of machine changes."""
    groups = read_folder(folder)
    machines = {run.provenance.processor for group in groups.values() for run in group}
    return _written(_recipes(groups, _image_sizes), " and ".join(sorted(machines)))


def _runs(folder: Path, parts_of: Callable[[_Groups], _Parts]) -> str:
    """Return a table of runs per kind of machine; runs on GPUs are in subfolders."""
    places: dict[str, dict[str, list[RunRecord]]] = {}
    for each in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for key, group in read_folder(each).items():
            for run in group:
                machine = run.provenance
                place = f"{_threads(machine.device, machine.threads)}{machine.processor}"
                runs = places.setdefault(f"{place}, {machine.precision}", {})
                runs.setdefault(key, []).append(run)
    return "\n".join(_written(parts_of(groups), place) for place, groups in sorted(places.items()))


def _benchmark(name: str, parts_of: Callable[[dict[str, Any]], _Parts]) -> str:
    """Return a table per file of a benchmark, with its machine, precision and commit."""
    tables = []
    for path in sorted(RESULTS.glob(f"benchmark-{name}.json")):
        found = json.loads(path.read_bytes())
        place = _threads(found.get("device", "cpu"), found["threads"]) + found["processor"]
        changed = " with changes" if found["source"]["dirty"] else ""
        commit = f"commit {found['source']['commit'][:10]}{changed}"
        tables.append(_written(parts_of(found), f"{place}, {found['precision']}, {commit}"))
    return "\n".join(tables)


def _written(parts: _Parts, place: str) -> str:
    header, rows, note = parts
    return f"{table(header, rows)}\n{note}{place}.\n"


def _throughput(found: dict[str, Any]) -> _Parts:
    rows = [
        (f"`{name}`, {method}", _spread(values, 0), _spread(model["ratios"].get(method), 2))
        for name, model in found["models"].items()
        for method, values in model["images_per_second"].items()
    ]
    header = ("recipe, loop", "images per second", "relative to the assignment's loop")
    note = ""
    if peaks := found.get("peaks"):
        multiples = {
            name: _spread(
                [each["step"] / each["convolutions"] for each in model["milliseconds"]], 2
            )
            for name, model in found["models"].items()
        }
        steps = " and ".join(f"{times} (`{name}`)" for name, times in multiples.items())
        note = (
            f"A step of `fit` takes {steps} times as long as its convolutions\nalone. Peaks: "
            f"{peaks['float32_gflops']:.0f} GFLOP/s in float32, {peaks['bfloat16_gflops']:.0f} in "
            f"bfloat16, copies at {peaks['copy_gb_per_second']:.0f} GB/s. "
        )
    return header, rows, note


def _loading(found: dict[str, Any]) -> _Parts:
    rows = [
        (method, _spread(values, 0), _spread(found["ratios"].get(method), 1))
        for method, values in found["images_per_second"].items()
    ]
    header = ("loader", "images per second", "relative to a DataLoader with two workers")
    return header, rows, ""


def _loading_weights(found: dict[str, Any]) -> _Parts:
    rows = [
        (
            f"`{name}`",
            f"{model['bytes'] / 1e6:.1f}",
            *(_spread(values, 1) for values in model["milliseconds"].values()),
            _spread([*model["ratios"].values()][-1], 2),  # ours is the last
        )
        for name, model in found["models"].items()
    ]
    methods = next(iter(found["models"].values()))["milliseconds"]
    header = ("model", "MB", *(f"{method}, ms" for method in methods), "ratio")
    return header, rows, "Median (range), with the files in the page cache. "


def _scaling(found: dict[str, Any]) -> _Parts:
    digits = {"seconds": 2, "images/s": 0, "GB": 2}
    prefix = {"GB": "peak memory, "}
    names = {"nothing": "start of Python"}
    rows = [
        (prefix.get(unit, "") + names.get(name, name), _spread(values, digits[unit]), unit)
        for unit in digits
        for name, values in found[unit].items()
    ]
    lazy, used = found["import_ratio"]["import cifarzoo"], found["import_ratio"]["cifarzoo.fit"]
    note = (
        f"`import cifarzoo` takes {lazy:.2f} times as long as `import torch`, since it imports "
        f"torch when it is first used;\nwith `cifarzoo.fit` it takes {used:.2f} times as long. "
    )
    return ("what", "median (range)", "unit"), rows, note


def _processes(found: dict[str, Any]) -> _Parts:
    rows = []
    for name, network in found["networks"].items():
        one, threads, two = network["images_per_second"].values()
        gains = [
            _spread([many / single for many, single in zip(method, one, strict=True)], 2)
            for method in (threads, two)
        ]
        step = found["batch_size"] / statistics.median(one)
        computed = [_speedup(step, 4 * network["params"], n) for n in COMPUTED_MACHINES]
        rows.append((f"`{name}`", _spread(one, 0), *gains, *(f"{gain:.1f}" for gain in computed)))
    machines = (f"{n} machines" for n in COMPUTED_MACHINES)
    header = ("network", "images per second", "two threads", "two processes", *machines)
    return header, rows, f"Batches of {found['batch_size']} images in total. "


def _speedup(step_seconds: float, gradient_bytes: int, machines: int) -> float:
    """Return the speed-up by several machines that sum their gradients in a ring."""
    sent = 2 * (machines - 1) / machines * gradient_bytes
    return step_seconds / (step_seconds / machines + sent / NETWORK_BYTES_PER_SECOND)


def _time_to_accuracy(found: dict[str, Any]) -> _Parts:
    images = found.get("images")
    runs = {method: _columns(each) for method, each in found["runs"].items()}
    peers = [method for method in runs if not method.startswith("sprint")]
    rows = []
    for method, columns in runs.items():
        shares = (
            _spread(None if method in peers else _ratios(columns, runs[peer]), 2) for peer in peers
        )
        # Shortened runs have no accuracies of their own.
        whole = _whole_runs(method) if images else columns
        accuracies = (percent(whole[key]) for key in ("single_view", "six_views"))
        seconds = columns["seconds"]
        rows.append((method, _spread(seconds, 1), *shares, *accuracies, len(whole["single_view"])))
    relative = (f"relative to {peer}" for peer in peers)
    header = ("method", "seconds", *relative, "single view", "with TTA", "seeds")
    part = f"of runs with {images:,} images per epoch, " if images else ""
    note = f"Seconds {part}median of {len(seconds)} (range); accuracy of whole runs. "
    return header, rows, note


def _inference(found: dict[str, Any], *, size: str, threads: str, many: bool) -> _Parts:
    """Return milliseconds for one image, or images per second, of each way to run a model."""
    models = sorted(found["models"].items(), key=lambda item: item[1][threads]["params"])
    measured = {name: each[threads]["milliseconds"][size] for name, each in models}
    ways = [way for way in _WAYS if way in next(iter(measured.values()))]
    rows, spreads = [], []
    for name, times in measured.items():
        medians = [statistics.median(times[way]) for way in ways]
        spreads += [max(times[way]) / min(times[way]) - 1 for way in ways]
        figures = (f"{1000 * int(size) / each:,.0f}" if many else f"{each:.2f}" for each in medians)
        rows.append((f"`{name}`", *figures))
    unit = "Images per second" if many else "Milliseconds"
    note = (
        f"{unit}, medians; half of the ranges are within {statistics.median(spreads):.0%}. Threads "
        f"of the computation: {threads}.\n"
    )
    return ("model", *(_WAYS[way] for way in ways)), rows, note


def _exported(found: dict[str, Any]) -> _Parts:
    """Return sizes, accuracies and latencies of the ONNX files."""
    rows = []
    for name, each in sorted(found["models"].items(), key=lambda item: item[1]["1"]["params"]):
        files = next(threads["files"] for threads in each.values() if "files" in threads)
        plain, int8 = files["onnxruntime"], files["onnxruntime_int8"]
        times = each["1"]["milliseconds"]["1"]
        sizes = (f"{file['bytes'] / 1e6:.2f}" for file in (plain, int8))
        accuracies = (f"{file['accuracy']:.2%}" for file in (plain, int8))
        latencies = (f"{statistics.median(times[way]):.2f}" for way in files)
        rows.append(
            (f"`{name}`", *sizes, f"{int8['bytes'] / plain['bytes']:.2f}", *accuracies, *latencies)
        )
    header = ("MB", "MB, int8", "ratio", "accuracy", "accuracy, int8", "ms", "ms, int8")
    note = "Accuracy on 10,000 test images; milliseconds for one image on one thread. "
    return ("model", *header), rows, note


def _columns(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    return {key: [run[key] for run in runs] for key in runs[0]}


def _ratios(ours: Mapping[str, list[float]], peer: Mapping[str, list[float]]) -> list[float]:
    return [a / b for a, b in zip(ours["seconds"], peer["seconds"], strict=True)]


def _whole_runs(method: str) -> dict[str, list[float]]:
    """Return the recorded accuracies of a network or, with any allocator, of the peer."""
    for each in standings():
        if (each.card.name, each.tag) == (method, STANDARD):
            return {
                "single_view": [run.test.accuracy for run in each.runs if run.test],
                "six_views": [run.test_tta.accuracy for run in each.runs if run.test_tta],
            }
    found = json.loads((RESULTS / "benchmark-airbench.json").read_text(encoding="utf-8"))
    return _columns(next(iter(found["runs"].values())))


def _threads(device: str, threads: int) -> str:
    return f"{threads} thread{'s' if threads != 1 else ''}, " if device == "cpu" else ""


def _spread(values: Sequence[float] | None, digits: int) -> str:
    """Format a median and the range; empty for None."""
    if values is None:
        return ""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


TABLES: Mapping[str, Callable[[], str]] = {
    "results": _results,
    "models": _models,
    "scores": lambda: scores_table(standings()),
    "sprint": _sprint,
    "recipes": partial(_runs, RESULTS / "recipes" / "augmentation", _recipes),
    "recipes_sprint": partial(_study, RESULTS / "recipes" / "sprint"),
    "throughput": partial(_benchmark, "throughput", _throughput),
    "loading": partial(_benchmark, "loading", _loading),
    "loading_weights": partial(_benchmark, "loading-weights", _loading_weights),
    "scaling": partial(_benchmark, "scaling", _scaling),
    "processes": partial(_benchmark, "processes", _processes),
    "inference_one": partial(
        _benchmark, "inference", partial(_inference, size="1", threads="1", many=False)
    ),
    "inference_many": partial(
        _benchmark, "inference", partial(_inference, size="256", threads="2", many=True)
    ),
    "exported": partial(_benchmark, "inference", _exported),
    "time_to_accuracy": partial(_benchmark, "time-to-accuracy*", _time_to_accuracy),
}
_MARKED = re.compile(
    rf"<!-- (?P<name>{'|'.join(TABLES)}) -->\n.*?<!-- /(?P=name) -->", flags=re.DOTALL
)


def filled(text: str) -> str:
    """Return the text of a page with its tables replaced by current ones."""

    def write(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- {name} -->\n{TABLES[name]()}<!-- /{name} -->"

    return _MARKED.sub(write, text)


def draw_curves(path: Path) -> None:
    """Draw the training curves of the report's networks."""
    runs = read_folder(RESULTS)
    histories = {EXPERIMENTS[key].title: [run.history for run in runs[key]] for key in CURVES}
    zoo.viz.plot_histories(histories).savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write or check the tables in all pages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(arguments).check
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        wanted = filled(text)
        if check and text != wanted:
            sys.exit(f"{page} is out of date: run python tools/tables.py")
        if text != wanted:
            page.write_text(wanted, encoding="utf-8")
    if not check:
        draw_curves(ROOT / "docs" / "pictures" / "curves.png")


if __name__ == "__main__":
    main()
