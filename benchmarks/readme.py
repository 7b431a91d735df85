"""Write the README's table of results from results/.

python benchmarks/readme.py            # writes it
python benchmarks/readme.py --check    # fails if the README says something else
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cifarzoo.report import load_results
from cifarzoo.report.summary import Summary, summaries
from cifarzoo.viz import plot_histories

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"
SHOWN = ("2", "3b", "3e", "4a")  # tasks; 3c and 3d are comparisons, for the report's page
HEADER = (
    "| network | parameters | test accuracy | the report's run | seeds |\n"
    "| --- | ---: | ---: | ---: | ---: |\n"
)


def row(summary: Summary) -> str:
    """Write one network's line."""
    accuracy = summary.estimate("test_accuracy")
    assert accuracy is not None
    ours = f"{accuracy.mean:.2%}" + (f" ± {accuracy.std * 100:.2f}" if accuracy.std else "")
    theirs = summary.reported_figure("test_accuracy")
    return (
        f"| {summary.title} | {summary.records[0].params:,} | {ours} | "
        f"{'–' if theirs is None else f'{theirs:.2%}'} | {accuracy.n} |\n"
    )


def table(folder: Path) -> str:
    """Write the lines of the report's networks that were run, and of those beside them."""
    results = load_results(folder)
    run = [summary for summary in summaries(results).values() if summary.records]
    listed = sorted((each.task, each.title, each) for each in run if each.task in SHOWN)
    rows = [row(summary) for *_, summary in listed]
    places = sorted({(r.machine.processor, r.machine.precision) for r in results.records})
    machines = " and ".join(f"{processor} in {precision}" for processor, precision in places)
    return (
        f"{HEADER}{''.join(rows)}\n"
        "Mean ± standard deviation over the seeds, single view, all 10,000 test images, scored "
        "once a run;\nthe state was chosen on the validation split. Measured on "
        f"{machines};\nevery run with its machine, commit, seed and versions is in "
        "[results/](results).\n"
    )


def speed(folder: Path) -> str:
    """Write how fast `fit` is beside the assignment's loop, as benchmarks/throughput.py found."""
    found = json.loads((folder / "benchmark-throughput.json").read_text())
    ratios = {name: model["median_ratio"]["fit"] for name, model in found["models"].items()}
    said = " and ".join(f"`{name}` {ratio:.1f} times" for name, ratio in ratios.items())
    return (
        f"\nOn {found['threads']} threads of an {found['processor']}, in {found['precision']}, "
        f"`fit` trains {said}\nas fast as a plain loop with torchvision's DataLoader of two "
        "workers ([how](benchmarks/throughput.py)).\n"
    )


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
    """Write the table, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    path, results = ROOT / "README.md", ROOT / "results"
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = before + BEGIN + table(results) + speed(results) + END + after
    if not options.check:
        path.write_text(wanted)
        draw(results, ROOT / "docs" / "pictures" / "curves.png")
    elif text != wanted:
        sys.exit("README.md and results/ differ; run python benchmarks/readme.py")


if __name__ == "__main__":
    main()
