"""The documentation and the report's page in a browser."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page

import cifarzoo as zoo

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
    src: each.src, alt: each.alt, width: each.naturalWidth,
}))"""


class Visit:
    """An open page and the problems it reported."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.problems: list[str] = []
        self.elsewhere: list[str] = []
        host = urlsplit(address).netloc
        page.on("console", self._on_message)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("requestfailed", lambda request: self.problems.append(request.url))
        page.on("request", lambda request: self._on_request(request.url, host))
        page.goto(address, wait_until="networkidle")

    def _on_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"{message.text} ({message.location})")

    def _on_request(self, url: str, host: str) -> None:
        if not url.startswith("data:") and urlsplit(url).netloc != host:
            self.elsewhere.append(url)

    def assert_healthy(self) -> None:
        """Assert no errors, no foreign hosts, and images that load and have alternative text."""
        assert not self.problems
        assert not self.elsewhere
        for image in self.page.evaluate(IMAGES):
            assert image["width"] > 0, image
            assert len(image["alt"].split()) >= 3, image

    def assert_accessible(self) -> None:
        """Assert that axe-core finds no serious violation."""
        found = Axe().run(self.page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], each["nodes"][0]["html"]) for each in serious]

    def assert_fits_phone(self) -> None:
        """Assert that there is no horizontal scrolling."""
        self.page.set_viewport_size({"width": PHONE, "height": 844})
        assert self.page.evaluate("document.documentElement.scrollWidth") <= PHONE


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def test_every_task_has_a_page() -> None:
    assert len([name for name in PAGES if name.startswith("tasks/task")]) == 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_plot_is_shown_next_to_its_function(scheme: str, site: str, browser: Browser) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(site + "api/viz.html")
    drawn = [name for name in zoo.viz.__all__ if name.startswith("plot_")]
    for name in drawn:
        section = page.locator("section", has=page.locator(f"[id='cifarzoo.viz.{name}']")).last
        assert section.locator(f"img[src*='{name}-{scheme}']").is_visible()
    context.close()


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("tasks/task")])
def test_every_task_shows_its_recorded_output(name: str, site: str, page: Page) -> None:
    page.goto(site + name)
    assert "with torch" in page.locator("p.conditions").inner_text()
    assert page.locator("article img.paper").first.is_visible()


def test_table_of_models_fits_the_page(site: str, page: Page) -> None:
    page.goto(site + "models/index.html")
    table = page.locator(".compact .table-wrapper").first
    assert table.evaluate("each => each.scrollWidth <= each.clientWidth")


@pytest.mark.parametrize("name", ["data", "evaluation", "training"])
def test_signatures_name_type_aliases(name: str, site: str, page: Page) -> None:
    page.goto(site + f"api/{name}.html")
    shown = page.locator("dl.py.function > dt").all_inner_texts()
    assert not [each for each in shown if "Literal" in each or "ForwardRef" in each]
    assert page.locator("article .doctest").count()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_healthy(name: str, site: str, page: Page) -> None:
    visit = Visit(page, site + name)
    visit.assert_healthy()
    visit.assert_accessible()
    visit.assert_fits_phone()


def test_internal_links_resolve(site: str, page: Page) -> None:
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
        assert (SITE / target).exists(), f"{origin} links to {target}"
        if fragment and target in ids:
            assert fragment in ids[target], f"{origin} links to {target}#{fragment}"


def test_search_finds_a_function(site: str, page: Page) -> None:
    visit = Visit(page, site + "search.html?q=conv_output_size")
    first = page.locator("#search-results li a").first
    first.wait_for(timeout=10_000)
    assert "conv_output_size" in page.locator("#search-results").inner_text()
    visit.assert_healthy()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_page_is_healthy(scheme: str, report: str, browser: Browser) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    visit = Visit(context.new_page(), report)
    visit.assert_healthy()
    visit.assert_accessible()
    visit.assert_fits_phone()
    context.close()


def test_figures_link_to_their_provenance(report: str, page: Page) -> None:
    page.goto(report)
    page.locator("a.source").first.click()
    assert page.evaluate("document.querySelector(':target').tagName") == "TR"


# The playground

READY = """() => document.querySelector("#play").getAttribute("aria-busy") === "false"
    && document.querySelectorAll("#classes tbody tr").length === 10"""
PROBABILITIES = """() => Object.fromEntries([...document.querySelectorAll("#classes tbody tr")].map(
    each => [each.children[0].textContent, Number(each.dataset.probability)]))"""
FIRST_PIXEL = """() => [...document.querySelector("#seen").getContext("2d")
    .getImageData(0, 0, 1, 1).data]"""

Open = Callable[..., Visit]


@pytest.fixture
def open_page(site: str, browser: Browser) -> Iterator[Open]:
    contexts = []

    def visit(**options: Any) -> Visit:  # noqa: ANN401 - of the browser
        contexts.append(browser.new_context(**options))
        found = Visit(contexts[-1].new_page(), site + "playground.html")
        found.page.wait_for_function(READY)
        return found

    yield visit
    for context in contexts:
        context.close()


def give(page: Page, name: str, content: bytes) -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})
    page.wait_for_function(READY)


def png(pixels: np.ndarray[Any, Any], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("name", ["resnet20", "tiny_m", "resnet56"])
def test_probabilities_equal_python_s(open_page: Open, name: str) -> None:
    visit, (data, _) = open_page(), next(iter(zoo.shapes_loaders(n_train=100, n_test=10).test))
    visit.page.select_option("#network", name)
    visit.page.wait_for_function(READY)
    assert f"({name}," in visit.page.locator("#status").inner_text()
    model = zoo.build_model(name, weights="default")
    for pixels in (255 * data).round().to(torch.uint8):
        give(visit.page, "image.png", png(pixels.permute(1, 2, 0).numpy()))
        with torch.no_grad():
            expected = model(pixels[None]).softmax(1)[0].tolist()
        found = visit.page.evaluate(PROBABILITIES)
        names = model.class_names or ()
        assert [found[each] for each in names] == pytest.approx(expected, abs=1e-4)
    visit.assert_healthy()


def test_large_pictures_are_cropped_and_text_is_refused(open_page: Open) -> None:
    visit = open_page()
    before = visit.page.evaluate(PROBABILITIES)
    large = np.zeros((3000, 4000, 3), np.uint8)
    large[:, 500:3500, 2] = 255  # blue is all that remains of it
    give(visit.page, "large.jpg", png(large, "JPEG"))
    red, green, blue, _ = visit.page.evaluate(FIRST_PIXEL)
    assert max(red, green) < 15
    assert blue > 240
    after = visit.page.evaluate(PROBABILITIES)
    assert after != before
    give(visit.page, "notes.txt", b"not a picture")
    assert "notes.txt is not a picture" in visit.page.locator("#problem").inner_text()
    assert visit.page.evaluate(PROBABILITIES) == after
    visit.assert_healthy()


def test_sliders_drawing_and_keys_change_the_result(open_page: Open) -> None:
    page = open_page().page
    seen = [page.evaluate(PROBABILITIES)]

    def expect_a_change() -> None:
        page.wait_for_function(READY)
        seen.append(page.evaluate(PROBABILITIES))
        assert seen[-1] != seen[-2]

    for name in ("right", "down", "turn", "blur"):
        page.focus(f"#{name}")
        page.keyboard.press("ArrowRight")
        expect_a_change()
    page.click("#clear")
    expect_a_change()
    page.focus("#picture")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect_a_change()
    box = page.locator("#picture").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 90)
    page.mouse.up()
    expect_a_change()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_on_a_phone(open_page: Open, scheme: str) -> None:
    visit = open_page(color_scheme=scheme, viewport={"width": PHONE, "height": 844})
    visit.assert_healthy()
    visit.assert_accessible()
    visit.assert_fits_phone()
