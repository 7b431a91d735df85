"""Write the tables of the README and of some pages of the documentation from results/.

python benchmarks/readme.py            # writes them
python benchmarks/readme.py --check    # fails if they say something else

A table stands between `<!-- name -->` and `<!-- /name -->`, where name is one of `TABLES`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

from interleaved import spread
from standings import (
    TITLE,
    measured,
    percent,
    standings,
    trained_on,
    training_time,
    val_by_seed,
)

import cifarzoo as zoo
from cifarzoo.report import load_results
from cifarzoo.report.provenance import Source
from cifarzoo.report.record import Record
from cifarzoo.report.summary import Summary, summaries
from cifarzoo.report.words import interval, signed
from cifarzoo.viz import plot_histories

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/speed.md",
    "docs/howto/several_gpus.md",
    "docs/howto/own_recipe.md",
    "docs/howto/weights.md",
)
NETWORK_BYTES_PER_SECOND = 10e9 / 8  # of the machines that are computed
COMPUTED = (2, 4, 8, 16)  # machines
SHOWN = ("2", "3b", "3e", "4a")  # tasks; 3c and 3d are comparisons, for the report's page
HEADER = (
    "| network | parameters | test accuracy | the report's run | seeds |\n"
    "| --- | ---: | ---: | ---: | ---: |\n"
)


def row(summary: Summary) -> str:
    """Write one network's line."""
    theirs = summary.reported_figure("test_accuracy")
    return (
        f"| {summary.title} | {summary.records[0].params:,} | "
        f"{measured([record.test for record in summary.records])} | "
        f"{'–' if theirs is None else f'{theirs:.2%}'} | {len(summary.records)} |\n"
    )


def table(folder: Path) -> str:
    """Write the lines of the report's networks that were run, and of those beside them."""
    results = load_results(folder)
    run = [summary for summary in summaries(results).values() if summary.records]
    listed = sorted((each.task, each.title, each) for each in run if each.task in SHOWN)
    rows = [row(summary) for *_, summary in listed]
    shown = [record for summary in run for record in summary.records]
    processors = " and ".join(sorted({record.machine.processor for record in shown}))
    return (
        f"{HEADER}{''.join(rows)}\n"
        "Mean ± standard deviation over the seeds (of one run its 95 % interval), single view, all "
        "10,000 test\nimages, scored once a run; the state was chosen on the validation split.\n"
        f"Measured on {processors} ({trained_on(shown)});\n"
        "every run with its machine, commit, seed and versions is in [results/](results).\n"
    )


def benchmark(folder: Path, name: str) -> dict[str, Any]:
    """Read what one benchmark found."""
    found: dict[str, Any] = json.loads((folder / f"benchmark-{name}.json").read_text())
    return found


def where(found: Mapping[str, Any]) -> str:
    """Say what a benchmark ran on."""
    place = part(found.get("device", "cpu"), found["threads"]) + found["processor"]
    source = Source(**found["source"]).label
    commit = source if source.startswith("version") else f"commit {source}"
    return f"{place}, {found['precision']}, {commit}"


def part(device: str, threads: int) -> str:
    """Say how much of a processor was used; of a GPU it is always all."""
    return f"{threads} threads of an " if device == "cpu" else ""


def rows(*lines: Sequence[object]) -> str:
    """Write a table from its lines, the header first; all columns but one hold numbers."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in (lines[0], rule, *lines[1:]))


def sprint_row(name: str, records: Sequence[Record]) -> Sequence[object]:
    """Write one network's line."""
    seconds = [record.history.seconds for record in records]
    return (
        f"`{name}`",
        f"{records[0].params:,}",
        spread(seconds, 1),
        measured([record.test for record in records]),
        measured([record.test_tta for record in records]),
        len(records),
    )


def sprint(folder: Path) -> str:
    """Write what benchmarks/sprint.py found, a table for every kind of machine."""
    return "\n".join(starmap(sprint_table, by_place(folder / "sprint")))


def by_place(folder: Path) -> list[tuple[str, list[Record]]]:
    """Sort runs by the kind of machine; those on GPUs lie in folders of their own."""
    places: dict[str, list[Record]] = {}
    of_gpus = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    for record in (r for each in (folder, *of_gpus) for r in load_results(each).records):
        machine = record.machine
        place = f"{part(machine.device, machine.threads)}{machine.processor}, {machine.precision}"
        places.setdefault(place, []).append(record)
    return sorted(places.items())


def sprint_table(place: str, runs: Sequence[Record]) -> str:
    """Write one machine's table, the smallest network first."""
    records: dict[str, list[Record]] = {}
    for record in sorted(runs, key=lambda each: each.params):
        records.setdefault(record.key, []).append(record)
    header = ("network", "parameters", "seconds of training", "single view", "six views", "seeds")
    return rows(header, *(sprint_row(name, each) for name, each in records.items())) + (
        f"\nAll 50,000 training images, last state, 10,000 test images scored once a run; seconds: "
        f"median (least to most);\naccuracy: mean ± standard deviation. {place}.\n"
    )


def speed(folder: Path) -> str:
    """Write how fast `fit` is beside the assignment's loop, as benchmarks/throughput.py found."""
    found = benchmark(folder, "throughput")
    ratios = {name: model["median_ratio"]["fit"] for name, model in found["models"].items()}
    said = " and ".join(f"`{name}` {ratio:.1f} times" for name, ratio in ratios.items())
    alike = [f"{model['median_ratio']['fit, float32']:.1f}" for model in found["models"].values()]
    return (
        f"On {found['threads']} threads of an {found['processor']}, `fit` in {found['precision']} "
        f"trains {said}\nas fast as the assignment's loop in float32, whose DataLoader has two "
        f"workers; with both in float32, {' and '.join(alike)} times\n"
        "([all figures](docs/speed.md)).\n"
    )


def throughput(folder: Path) -> str:
    """Write what benchmarks/throughput.py found."""
    found = benchmark(folder, "throughput")
    lines = [
        (f"`{name}`, {way}", spread(values, 0), "" if way not in ratios else spread(ratios[way], 2))
        for name, model in found["models"].items()
        for ratios in (model["ratios"],)
        for way, values in model["images_per_second"].items()
    ]
    header = ("recipe, loop", "images per second", "times the assignment's loop")
    return rows(header, *lines) + f"\n{where(found)}.\n"


def loading(folder: Path) -> str:
    """Write what benchmarks/loading.py found."""
    found = benchmark(folder, "loading")
    lines = [
        (way, spread(values, 0), spread(found["ratios"][way], 1) if way in found["ratios"] else "")
        for way, values in found["images_per_second"].items()
    ]
    header = ("loader", "images per second", "times the DataLoader of two workers")
    return rows(header, *lines) + f"\n{where(found)}.\n"


def loading_weights(folder: Path) -> str:
    """Write what benchmarks/loading_weights.py found."""
    found = benchmark(folder, "loading-weights")
    lines = [
        (
            f"`{name}`",
            f"{model['bytes'] / 1e6:.1f}",
            *(spread(values, 1) for values in model["milliseconds"].values()),
            spread([*model["ratios"].values()][-1]),  # ours is measured last
        )
        for name, model in found["models"].items()
    ]
    ways = next(iter(found["models"].values()))["milliseconds"]
    header = ("default weights", "MB", *(f"{way}, ms" for way in ways), "times as long")
    place = part("cpu", found["threads"]) + found["processor"]
    return rows(header, *lines) + (
        f"\nMedian (least to most) of reading files that were read before. {place}, commit "
        f"{Source(**found['source']).label}.\n"
    )


def scaling(folder: Path) -> str:
    """Write what benchmarks/scaling.py found."""
    found = benchmark(folder, "scaling")
    digits = {"seconds": 2, "images/s": 0, "GB": 2}
    what = {"nothing": "start of Python", "GB": "peak memory, "}
    lines = [
        (what.get(unit, "") + what.get(name, name), spread(values, digits[unit]), unit)
        for unit in digits
        for name, values in found[unit].items()
    ]
    ratios = found["import_ratio"]
    ratio, used = ratios["import cifarzoo"], ratios["cifarzoo.fit"]
    return rows(("what", "figure", "unit"), *lines) + (
        f"\n`import cifarzoo` takes {ratio:.2f} times as long as `import torch`, for it does not "
        "import torch yet; with\n`cifarzoo.fit` looked up, which does, it takes "
        f"{used:.2f} times as long. {where(found)}.\n"
    )


def processes(folder: Path) -> str:
    """Write what benchmarks/processes.py found, and what follows for more machines."""
    found = benchmark(folder, "processes")
    lines = []
    for name, network in found["networks"].items():
        one, threads, two = network["images_per_second"].values()
        gains = [
            spread([many / single for many, single in zip(way, one, strict=True)])
            for way in (threads, two)
        ]
        step = found["batch_size"] / statistics.median(one)
        computed = [_gain(step, 4 * network["params"], machines) for machines in COMPUTED]
        speed = spread(one, 0)
        lines.append((f"`{name}`", speed, *gains, *(f"{gain:.1f}" for gain in computed)))
    header = ("network", "images per second", "two threads", "two processes")
    return rows((*header, *(f"{n} machines" for n in COMPUTED)), *lines) + (
        f"\nBatches of {found['batch_size']} over all processes, median (least to most). "
        f"{where(found)}.\n"
    )


def _gain(step_seconds: float, gradient_bytes: int, machines: int) -> float:
    """Compute how many times as fast several machines are whose gradients go round in a ring."""
    sent = 2 * (machines - 1) / machines * gradient_bytes
    return step_seconds / (step_seconds / machines + sent / NETWORK_BYTES_PER_SECOND)


def time_to_accuracy(folder: Path) -> str:
    """Write what benchmarks/time_to_accuracy.py found, on the CPU and on every GPU."""
    of_gpus = sorted(folder.glob("benchmark-time-to-accuracy-*.json"))
    names = ["time-to-accuracy", *(path.stem.removeprefix("benchmark-") for path in of_gpus)]
    return "\n".join(time_table(benchmark(folder, name)) for name in names)


def time_table(found: Mapping[str, Any]) -> str:
    """Write one machine's table."""
    lines = [
        (
            way,
            spread([run["seconds"] for run in runs], 1),
            percent([run["single_view"] for run in runs]),
            percent([run["six_views"] for run in runs]),
            len(runs),
        )
        for way, runs in found["runs"].items()
    ]
    header = ("method", "seconds of training", "single view", "six views", "runs")
    return rows(header, *lines) + (
        f"\n`sprint_m` takes {spread(found['ratios'], 2)} times as long. {where(found)}.\n"
    )


def models(folder: Path) -> str:
    """Write what the models reach whose weights come with the package, the most accurate first."""
    del folder  # the packaged weights say which records count
    found = [each for each in standings() if each.weights is not None and each.accuracy]
    by_accuracy = sorted(found, key=lambda each: -each.accuracy.mean if each.accuracy else 0.0)
    lines = [
        (
            f"`{each.card.name}`",
            f"`{each.weights.tag}`" if each.weights else "–",
            f"{each.params:,}",
            each.single_view,
            each.six_views,
            len(each.records),
            training_time(each.records),
            trained_on(each.records),
        )
        for each in by_accuracy
    ]
    if not lines:
        return "No weights come with the package yet.\n"
    sizes = ("weights", "parameters")
    header = ("model", *sizes, "single view", "six views", "seeds", "minutes", "trained on")
    runs = [record for each in found for record in each.records]
    ends = [record.test.interval for record in runs if record.test]
    half = [50 * (high - low) for low, high in ends]
    gains = [
        statistics.fmean(
            100 * (record.test_tta.accuracy - record.test.accuracy)
            for record in each.records
            if record.test and record.test_tta
        )
        for each in found
        if all(record.test and record.test_tta for record in each.records)
    ]
    return rows(header, *lines) + (
        "\nMean ± standard deviation over the seeds; that the test set is finite makes every "
        f"figure uncertain by another\n{min(half):.1f} to {max(half):.1f} points. Of one run its "
        "95 % interval. All 10,000 test images, scored once a run; six views are\ntest-time "
        f"augmentation, which adds {min(gains):.1f} to {max(gains):.1f} points. Minutes are the "
        "median time of training.\n`cifarzoo info NAME` names the machine, and says what the file "
        "that is shipped reaches.\n"
    )


def recipes(folder: Path) -> str:
    """Write what benchmarks/recipes.py found, a table for every kind of machine."""
    return "\n".join(starmap(recipes_table, by_place(folder / "recipes")))


def recipes_table(place: str, records: Sequence[Record]) -> str:
    """Write one machine's table, a network's most accurate recipe first."""
    compared: dict[str, dict[tuple[str, int], list[Record]]] = {}
    for record in records:
        name, recipe = record.title.split(TITLE.format(name="", recipe=""))
        runs = compared.setdefault(name, {})
        runs.setdefault((recipe, record.recipe.epochs), []).append(record)
    lines: list[Sequence[object]] = []
    for name, runs in sorted(compared.items()):
        found = {kind: val_by_seed(each) for kind, each in runs.items()}
        first, *others = sorted(runs, key=lambda kind: -statistics.fmean(found[kind].values()))
        behind = {each: _behind(found[first], found[each]) for each in others}
        for kind in (first, *others):
            accuracies = list(found[kind].values())
            minutes = statistics.median(each.history.seconds for each in runs[kind]) / 60
            figures = (percent(accuracies), len(accuracies), *behind.get(kind, ("", "")))
            lines.append((f"`{name}`, {kind[0]}", kind[1], f"{minutes:.0f}", *figures))
    columns = ("epochs", "minutes", "validation", "seeds", "points behind", "seed by seed")
    header = ("network, recipe", *columns)
    images = {record.val.n for record in records if record.val is not None}
    return rows(header, *lines) + (
        f"\nMean ± standard deviation over the seeds, on {' or '.join(f'{n:,}' for n in images)} "
        "validation images; how many points a recipe is behind\nthe first one, with the 95 % "
        f"interval of a paired t-test over the seeds that both have. {place}.\n"
    )


def _behind(best: Mapping[int, float], other: Mapping[int, float]) -> tuple[str, str]:
    """Write how many points a recipe is behind: the mean with its interval, and of each seed."""
    seeds = sorted(best.keys() & other.keys())
    if not seeds:
        return "no seed in common", ""
    found = zoo.paired_difference([best[seed] for seed in seeds], [other[seed] for seed in seeds])
    ends = interval(found, 2, 100)
    each = (signed(best[seed] - other[seed], 2, 100) for seed in seeds)
    return signed(found.mean, 2, 100) + (f" ({ends})" if ends else ""), ", ".join(each)


TABLES: Mapping[str, Callable[[Path], str]] = {
    "results": table,
    "models": models,
    "speed": speed,
    "sprint": sprint,
    "throughput": throughput,
    "loading": loading,
    "loading_weights": loading_weights,
    "scaling": scaling,
    "processes": processes,
    "time_to_accuracy": time_to_accuracy,
    "recipes": recipes,
}


def filled(text: str, results: Path) -> str:
    """Give a page with its tables written anew."""

    def write(found: re.Match[str]) -> str:
        name = found["name"]
        try:
            content = TABLES[name](results)
        except (FileNotFoundError, zoo.ResultsError):
            content = "Not measured yet.\n"
        return f"<!-- {name} -->\n{content}<!-- /{name} -->"

    names = "|".join(TABLES)
    return re.sub(rf"<!-- (?P<name>{names}) -->\n.*?<!-- /(?P=name) -->", write, text, flags=re.S)


def draw(folder: Path, path: Path) -> None:
    """Draw the training curves of the report's networks that were run."""
    run = [
        summary
        for summary in summaries(load_results(folder)).values()
        if summary.histories and summary.task in ("2", "3b", "3e")
    ]
    figure = plot_histories({summary.title: summary.histories for summary in run})
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    results = ROOT / "results"
    pages = "".join((ROOT / page).read_text() for page in PAGES)
    lost = [name for name in TABLES if f"<!-- {name} -->" not in pages]
    if lost:
        sys.exit(f"no page has a place for {', '.join(lost)}; needed is <!-- name -->")
    for page in PAGES:
        text = (ROOT / page).read_text()
        wanted = filled(text, results)
        if not options.check:
            (ROOT / page).write_text(wanted)
        elif text != wanted:
            sys.exit(f"{page} and results/ differ; run python benchmarks/readme.py")
    if not options.check:
        draw(results, ROOT / "docs" / "pictures" / "curves.png")


if __name__ == "__main__":
    main()
