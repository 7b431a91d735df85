from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cifarzoo import ResultsError
from cifarzoo.report import write_page
from cifarzoo.report.experiments import ABLATION, EXPERIMENTS
from cifarzoo.report.folder import write_failure, write_record
from cifarzoo.report.pictures import Picture
from cifarzoo.report.provenance import Source
from cifarzoo.report.record import Failure, Record

Make = Callable[..., Record]
Tag = tuple[str, dict[str, str | None]]

VOID = {"meta", "link", "img", "br", "source"}


class Page(HTMLParser):
    """A page as its tags, its text, and what is wrong with their nesting."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and tag not in ("line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def full(make_record: Make, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Two seeds of everything but the transfer, which failed."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifarzoo.report.figures.curves_picture", unrendered)
        return Page(_full_page(make_record, folder))


def unrendered(figure: Figure, *, alt: str, caption: str) -> Picture:
    """Leave the drawing out, which takes a second and has tests of its own."""
    blank = "data:image/svg+xml,"
    return Picture(wide=blank, narrow=blank, width=1, height=1, alt=alt, caption=caption)


def _full_page(make_record: Make, folder: Path) -> Path:
    for i, experiment in enumerate(EXPERIMENTS):
        if experiment.key == "resnet18_transfer":
            continue
        for seed in (0, 1):
            accuracy = 0.70 + i / 100 + seed * (0.01 if i else 0.02)
            write_record(make_record(experiment.key, seed, accuracy), folder)
    error = "<script>alert(1)</script> could not be downloaded"
    for key in ("resnet18_transfer", "filters"):
        write_failure(Failure(key=key, seed=0, error=error, date="2026-01-01"), folder)
    other = replace(
        make_record(accuracy=0.9), key="lite0", title="Lite0, transfer", task="4a", trainable=12_345
    )
    write_record(replace(other, source=Source(commit=None, dirty=None, versions={})), folder)
    return write_page(folder)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(write_page(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="module", params=["full", "empty"])
def page(request: pytest.FixtureRequest) -> Page:
    found: Page = request.getfixturevalue(request.param)
    return found


def test_every_tag_is_closed(page: Page) -> None:
    assert page.open == []


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), f"<{tag} {name}={value}>"
    assert len(page.all("script")) == 1  # its own: it sorts the tables


def test_links_lead_somewhere(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.tags}
    for link in page.all("a"):
        assert (link["href"] or "").removeprefix("#") in ids


def test_ids_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_every_picture_says_what_there_is_to_see(full: Page) -> None:
    pictures = full.all("img")
    assert len(pictures) == 7
    assert all(len(picture["alt"] or "") > 40 for picture in pictures)


def test_every_table_has_a_caption_and_every_header_a_scope(page: Page) -> None:
    assert len(page.all("table")) == len(page.all("caption")) > 5
    assert all(header.get("scope") for header in page.all("th"))


def test_light_and_dark_and_small_screens(page: Page) -> None:
    names = {meta.get("name"): meta.get("content") for meta in page.all("meta")}
    assert names["color-scheme"] == "light dark"
    assert names["viewport"] == "width=device-width, initial-scale=1"


def test_our_figures_stand_beside_the_report_s(full: Page) -> None:
    text = full.text
    assert "test accuracy (%) 71.00 ± 1.41 72.51 −1.51" in text
    assert "seeds 0, 1" in text
    assert "390,410 parameters" in text


def test_each_of_our_figures_leads_to_how_it_was_measured(full: Page) -> None:
    leads = [link["href"] or "" for link in full.all("a") if link.get("class") == "source"]
    measured = {
        attributes["id"] for tag, attributes in full.tags if tag == "tr" and attributes.get("id")
    }
    keys = {f"#how-{each.key}" for each in EXPERIMENTS if each.key != "resnet18_transfer"}
    assert keys <= set(leads)
    assert "#condition-A" in leads
    assert {lead.removeprefix("#") for lead in leads} <= measured


def test_tables_that_can_be_sorted_give_numbers_where_words_are_shown(full: Page) -> None:
    sortable = [each for each in full.all("table") if each.get("class") == "sortable"]
    assert len(sortable) == 6
    given = [each["data-sort"] or "" for each in full.all("td") if "data-sort" in each]
    assert len(given) > 30
    assert all(value == "–" or float(value) >= 0 for value in given)


def test_every_change_is_shown_with_its_interval(full: Page) -> None:
    for experiment in ABLATION:
        assert experiment.title in full.text
    assert len([tag for tag in full.all("svg") if tag.get("class") == "bar"]) == len(ABLATION)
    assert "no clear difference" in full.text


def test_task_1_is_computed(page: Page) -> None:
    assert "2,432 + 51,264 + 204,928 + 131,136 + 650 = 390,410" in page.text
    assert "give −11" in page.text


def test_what_was_not_run_says_so_and_why(full: Page) -> None:
    assert "Not run yet: ResNet-18, transfer." in full.text
    assert "ResNet-18, transfer, 2026-01-01" in full.text
    assert "Tasks 4b and 4c, 2026-01-01" in full.text
    assert "<script>alert(1)</script> could not be downloaded" in full.text


def test_no_figure_is_made_up(empty: Page) -> None:
    assert "0 recorded runs" in empty.text
    assert "±" not in empty.text.replace("mean ± standard deviation", "")
    assert empty.text.count("Plot: not run.") == 9
    assert not empty.all("img")


def test_conditions_are_told(full: Page) -> None:
    assert "A Processor, 2 cores, 2 threads, cpu, float32" in full.text
    assert "c0ffeec0ff" in full.text
    assert "2026-01-01 to 2026-01-02" in full.text


def test_other_transfer_runs_are_shown_beside_the_report_s(full: Page) -> None:
    assert "Lite0, transfer: 12,345 of 390,410 parameters are trained." in full.text


def test_real_runs_carry_no_warning(full: Page) -> None:
    assert "not a reproduction" not in full.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "shapes"}, "the data is a stand-in (shapes), not CIFAR-10"),
        ({"mode": "quick"}, "each run was a single epoch over a few hundred images"),
    ],
)
def test_stand_in_is_marked_and_not_compared(
    make_record: Make, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    write_record(make_record("ablation_dropout", **changes), tmp_path)
    page = Page(write_page(tmp_path))
    assert f"These figures are not a reproduction: {words}" in page.text


def test_same_results_give_the_same_page(make_record: Make, tmp_path: Path) -> None:
    write_record(make_record("ablation_dropout"), tmp_path)  # pictures have their own test
    first = write_page(tmp_path).read_bytes()
    assert write_page(tmp_path).read_bytes() == first


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="needed is a folder of results"):
        write_page(tmp_path / "nowhere")
