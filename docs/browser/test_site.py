"""The documentation and the report's page, as a browser shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

from cifarzoo import viz

SITE = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts
)
PHONE = 390  # pixels
IDS = "() => [...document.querySelectorAll('[id]')].map(each => each.id)"
LINKS = "() => [...document.querySelectorAll('a[href]')].map(each => each.href)"
IMAGES = """() => [...document.images].map(each => ({
    src: each.src, alt: each.alt, width: each.naturalWidth, height: each.naturalHeight,
    given: each.getAttribute("width") / each.getAttribute("height"),
}))"""


class Visit:
    """A page that was opened, and what went wrong while it was."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.problems: list[str] = []
        self.elsewhere: list[str] = []
        host = urlsplit(address).netloc
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("requestfailed", lambda request: self.problems.append(request.url))
        page.on("request", lambda request: self._note(request.url, host))
        page.goto(address, wait_until="networkidle")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"{message.text} ({message.location})")

    def _note(self, url: str, host: str) -> None:
        if not url.startswith("data:") and urlsplit(url).netloc != host:
            self.elsewhere.append(url)

    def assert_sound(self) -> None:
        """No error, nothing from another host, every image there, described and of a given size."""
        assert not self.problems
        assert not self.elsewhere
        for image in self.page.evaluate(IMAGES):
            assert image["width"] > 0, image
            assert len(image["alt"].split()) >= 3, image
            proportion = image["width"] / image["height"]
            assert image["given"] == pytest.approx(proportion, rel=0.02), image

    def assert_accessible(self) -> None:
        """axe-core finds nothing serious."""
        found = Axe().run(self.page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], each["nodes"][0]["html"]) for each in serious]

    def assert_fits_a_phone(self) -> None:
        """Nothing has to be scrolled sideways."""
        self.page.set_viewport_size({"width": PHONE, "height": 844})
        assert self.page.evaluate("document.documentElement.scrollWidth") <= PHONE


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def test_there_are_pages() -> None:
    wanted = {"index.html", "numbers.html", "speed.html", "api/viz.html", "models/index.html"}
    assert wanted <= set(PAGES)
    assert len([name for name in PAGES if name.startswith("tasks/task")]) == 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_picture_is_shown_where_its_function_is_described(
    scheme: str, site: str, browser: Browser
) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(site + "api/viz.html")
    drawn = [name for name in viz.__all__ if name.startswith("plot_")]
    for name in drawn:
        section = page.locator("section", has=page.locator(f"[id='cifarzoo.viz.{name}']")).last
        assert section.locator(f"img[src*='{name}-{scheme}']").is_visible()
    context.close()


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("tasks/task")])
def test_every_task_shows_what_was_recorded(name: str, site: str, page: Page) -> None:
    page.goto(site + name)
    assert "at commit" in page.locator("p.conditions").inner_text()
    assert page.locator("article img.paper").first.is_visible()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_sound(name: str, site: str, page: Page) -> None:
    visit = Visit(page, site + name)
    visit.assert_sound()
    visit.assert_accessible()
    visit.assert_fits_a_phone()


def test_every_link_within_leads_somewhere(site: str, page: Page) -> None:
    ids: dict[str, set[str]] = {}
    wanted: set[tuple[str, str, str]] = set()
    for name in PAGES:
        page.goto(site + name)
        ids[name] = set(page.evaluate(IDS))
        for href in page.evaluate(LINKS):
            parts = urlsplit(href)
            if parts.netloc == urlsplit(site).netloc:
                wanted.add((name, unquote(parts.path).lstrip("/"), unquote(parts.fragment)))
    for origin, path, fragment in sorted(wanted):
        target = "index.html" if path == "" else path
        assert (SITE / target).exists(), f"{origin} leads to {target}"
        if fragment and target in ids:
            assert fragment in ids[target], f"{origin} leads to {target}#{fragment}"


def test_search_finds_a_function(site: str, page: Page) -> None:
    visit = Visit(page, site + "search.html?q=conv_output_size")
    first = page.locator("#search-results li a").first
    first.wait_for(timeout=10_000)
    assert "conv_output_size" in page.locator("#search-results").inner_text()
    visit.assert_sound()


def test_the_report_is_sound(report: str, page: Page) -> None:
    visit = Visit(page, report)
    visit.assert_sound()
    visit.assert_accessible()
    visit.assert_fits_a_phone()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_accessible_in_both_schemes(
    scheme: str, report: str, browser: Browser
) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    visit = Visit(context.new_page(), report)
    visit.assert_accessible()
    context.close()


def test_tables_sort_and_sort_back(report: str, page: Page) -> None:
    page.goto(report)
    table = page.locator("table.sortable").first

    def column() -> list[float]:
        cells = table.locator("tbody tr td:nth-of-type(1)").all_inner_texts()
        return [float(text.split()[0]) for text in cells if text != "–"]

    button = table.locator("thead button").nth(1)
    before = column()
    button.click()
    assert column() == sorted(before) != before or before == sorted(before)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
    button.click()
    assert column() == sorted(before, reverse=True)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"


def test_totals_stay_below(report: str, page: Page) -> None:
    page.goto(report)
    table = page.locator("details[open] table.sortable").first
    for index in range(4):
        table.locator("thead button").nth(index).click()
        assert table.locator("tbody tr").last.get_attribute("class") == "total"


def test_figures_lead_to_how_they_were_measured(report: str, page: Page) -> None:
    page.goto(report)
    page.locator("table.sortable").first.locator("a.source").first.click()
    assert page.evaluate("document.querySelector(':target').tagName") == "TR"
