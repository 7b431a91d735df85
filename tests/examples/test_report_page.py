"""The page of the whole report: complete, self-contained, and true to the recorded runs."""

from __future__ import annotations

import importlib
import json
import statistics
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typing_extensions import override

import cifarzoo as zoo
from cifarzoo.errors import DownloadError

RESULTS = Path(__file__).parents[2] / "results"
VOID = {"meta", "link", "img", "source", "br"}


class Page(HTMLParser):
    """Text, attributes and unclosed tags of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.unclosed: list[str] = []
        self._text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join("".join(self._text).split())

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.unclosed.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self._text.append(f"{data} ")


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch, importable: None) -> None:
    """Leave out the drawing, which is slow and has tests of its own."""
    page = importlib.import_module("_page")

    def draw(plot: object, alt: str, caption: str) -> object:
        return page.Picture("data:,", "data:,", (1, 1), alt, caption)

    monkeypatch.setattr(page, "draw", draw)


@pytest.fixture
def recorded(
    blank_figures: None,
    run_script: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Page:
    """The page of the runs in results/."""
    for path in RESULTS.glob("*-seed*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "resnet18_transfer.error.txt").write_text("<script>no network")
    monkeypatch.setattr(zoo, "train", lambda *args, **options: pytest.fail("trained"))
    run_script("report_page", "--only", "none", "--out", tmp_path)
    return Page(tmp_path / "report.html")


def test_page_is_self_contained(recorded: Page) -> None:
    assert recorded.unclosed == []
    ids = [attributes["id"] for _, attributes in recorded.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in recorded.tags:
        assert tag != "script"
        for name in ("src", "href", "srcset"):
            value = attributes.get(name) or "data:"
            assert value.startswith("data:") or value.removeprefix("#") in ids
        assert tag != "img" or len(attributes["alt"] or "") > 30
        assert tag != "th" or attributes["scope"]


def test_page_shows_the_recorded_accuracies_next_to_the_reports(recorded: Page) -> None:
    for key, reported in (("baseline", 72.51), ("model2", 79.07), ("best", 81.17)):
        runs = [json.loads(path.read_text()) for path in RESULTS.glob(f"{key}-seed*.json")]
        accuracies = [100 * run["test"]["accuracy"] for run in runs]
        mean, std = statistics.fmean(accuracies), statistics.stdev(accuracies)
        difference = f"{mean - reported:+.2f}"
        assert f"{mean:.2f} ± {std:.2f} {reported:.2f} {difference}" in recorded.text
    assert "half the filters −2.59" in recorded.text
    assert "worse −4.18 to −1.01" in recorded.text
    assert "ResNet-18, transfer <script>no network" in recorded.text
    assert "not a reproduction" not in recorded.text


def test_quick_report_runs_then_reads_records_and_notes_failures(
    run_script: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_model = zoo.build_model

    def offline(name: str, **options: object) -> object:
        if options.get("weights") == "imagenet":
            raise DownloadError("no network here")
        return build_model(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(zoo, "build_model", offline)
    command = ("report_page", "--quick", "--data", "shapes", "--out", tmp_path)
    run_script(*command, "--only", "ablation_none,ablation_half_filters,filters", "--seeds", "0,1")
    page = Page(tmp_path / "report.html")
    assert len(list(tmp_path.glob("*-seed*.json"))) == 4
    assert "not a reproduction: the data is artificial, not CIFAR-10; each run was" in page.text
    assert "no network here" in page.text
    assert sum(tag == "svg" and "bar" in str(a.get("class")) for tag, a in page.tags) == 1
    assert not list(tmp_path.glob(".checkpoints/*"))

    monkeypatch.setattr(zoo, "train", lambda *args, **options: pytest.fail("trained again"))
    run_script(*command, "--only", "ablation_none", "--seeds", "1,0")
    with pytest.raises(SystemExit, match="another recipe or other data"):
        run_script("report_page", "--data", "shapes", "--only", "none", "--out", tmp_path)
