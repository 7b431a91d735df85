"""
The whole report on one page
============================

Runs every experiment of the report over several seeds, and writes one HTML page: the report's
tables with our means and standard deviations next to its figures, the ablation with intervals,
every figure, and how each number was measured. The page is self-contained.

.. code-block:: sh

    pip install jinja2
    python examples/report_page.py --quick --data shapes --out quick    # a trial run, a minute
    python examples/report_page.py                                      # everything; takes hours
    python examples/report_page.py --only baseline,best --seeds 0,1,2
    python examples/report_page.py --only none                          # only writes the page

Each finished run is recorded as ``KEY-seedN.json`` in ``--out`` (or ``--results``) and not
repeated. An interrupted run continues from its checkpoint: run the same command again to continue,
or with more ``--seeds`` to add runs. In this repository, ``results/`` holds our runs of all
experiments but ResNet-18, whose ImageNet weights are downloaded.
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_best_model/task3e.webp"
from argparse import ArgumentParser
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import _page
import experiments
from _example import Options, run_example
from experiments import EXPERIMENTS, Experiment
from task4_filters import REPORT as REPORT_FILTERS
from task4_filters import figures

import cifarzoo as zoo


def failure_file(folder: Path, key: str) -> Path:
    """Return the path of the note that an experiment could not be run."""
    return folder / f"{key}.error.txt"


def note_failure(folder: Path, key: str, error: Exception) -> None:
    """Write why an experiment could not be run; the page shows it."""
    text = str(error).replace(str(Path.home()), "~")
    note = f"{datetime.now(UTC):%Y-%m-%d}: {text}\n"
    failure_file(folder, key).write_text(note, encoding="utf-8")
    print(f"{key} failed: {text}", flush=True)


def read_failure(folder: Path, key: str) -> str:
    """Return the note of a failure; empty if there is none."""
    path = failure_file(folder, key)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def run(experiment: Experiment, seed: int, options: Options) -> bool:
    """Train an experiment with one seed unless it is recorded; return whether it succeeded."""
    print(f"{experiment.title}, seed {seed} ...", flush=True)
    try:
        found = options.run(experiment, seed, weights=options.own.weights)
    except (
        zoo.errors.DownloadError,
        zoo.errors.MissingExtraError,
        zoo.errors.NonFiniteLossError,
        zoo.errors.WeightsError,
    ) as error:
        note_failure(options.out, experiment.key, error)
        return False
    failure_file(options.out, experiment.key).unlink(missing_ok=True)
    test = f"{found.test.accuracy:.2%}" if found.test else "not scored"
    print(f"{experiment.title}, seed {seed}: test accuracy {test}", flush=True)
    return True


def draw_filters(options: Options) -> None:
    """Draw tasks 4b and 4c, unless the figures exist or ResNet-18's weights are unavailable."""
    files = [options.out / f"task{part}.png" for part in ("4b", "4c")]
    if all(path.exists() for path in files):
        return
    weights = options.own.weights or "imagenet"
    try:
        model = zoo.build_model("resnet18_transfer", weights=weights)
    except (zoo.errors.DownloadError, zoo.errors.WeightsError) as error:
        note_failure(options.out, "filters", error)
        return
    image, origin = zoo.viz.orientation_pattern(), f"weights: {Path(weights).name}"
    for path, figure in zip(
        files, figures(model, image, list(REPORT_FILTERS), "resnet18", origin), strict=True
    ):
        figure.savefig(path, dpi=120)
    failure_file(options.out, "filters").unlink(missing_ok=True)


def collect(options: Options) -> dict[str, _page.Summary]:
    """Read the recorded runs of all experiments."""
    found = {}
    for key, experiment in EXPERIMENTS.items():
        files = options.results.glob(f"{key}-seed*.json") if options.results else ()
        seeds = sorted(int(path.stem.removeprefix(f"{key}-seed")) for path in files)
        runs = [options.run(experiment, seed) for seed in seeds]
        failure = "" if runs else read_failure(options.out, key)
        found[key] = _page.Summary(experiment=experiment, runs=runs, failure=failure)
    return found


def add_options(parser: ArgumentParser) -> None:
    """Add the choice of experiments, of ResNet-18's weights and of the precision."""
    chosen = (*experiments.MODELS, *experiments.CONTROLS, *experiments.ABLATION)
    keys = ",".join(each.key for each in chosen)
    known = f"{', '.join(EXPERIMENTS)}, filters, none"
    parser.add_argument("--only", default=f"{keys},filters", help=f"comma-separated: {known}")
    parser.add_argument("--weights", help="for ResNet-18: imagenet (default), or a file")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.set_defaults(out=Path("results"))


def run_all(options: Options) -> None:
    """Run what is not recorded yet: all experiments with the first seed, then with the next."""
    chosen = options.own.only.split(",")
    if unknown := set(chosen) - {*EXPERIMENTS, "filters", "none"}:
        raise zoo.errors.InvalidValueError(f"--only: unknown {', '.join(sorted(unknown))}")
    if "filters" in chosen:
        draw_filters(options)
    keys = [key for key in chosen if key in EXPERIMENTS]
    for seed in options.seeds:
        keys = [key for key in keys if run(EXPERIMENTS[key], seed, options)]


def main(options: Options) -> None:
    """Run the experiments, then write the page from all recorded runs."""
    options = replace(options, results=options.results or options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        run_all(options)
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue")
    found = collect(options)
    failures = {each.title: each.failure for each in found.values()}
    failures["Tasks 4b and 4c"] = read_failure(options.out, "filters")
    noted = {title: failure for title, failure in failures.items() if failure}
    print(_page.write_page(options.out, found, noted))


if __name__ == "__main__":
    run_example(
        main, "Run the whole report and write one page.", seeds="0,1,2", add_options=add_options
    )
