"""The page in headless Chromium: it loads without errors or requests, on a phone, in the dark, on paper, in Korean.

Screenshots are kept in the folder $ARTIFACTS, or in build/.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from hf_seqmodels.tasks.compare.page import render
from hf_seqmodels.tasks.compare.texts import claim_texts
from tests.tasks.compare import toys
from tests.tasks.compare.recorded import RUN, recorded_names, recorded_result

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt install chromium)")
ARTIFACTS = Path(os.environ.get("ARTIFACTS") or Path(__file__).parents[3] / "build") / "compare"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
NAMES = [*toys.CLAIMS, *recorded_names()]
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
LOWEST_CONTRAST = 4.5  # WCAG 2.2, AA, for text
# Elements of a selector -> [name, colour of its text, colour behind it].
COLOURS = """selector => [...document.querySelectorAll(selector)].map(element => {
    const colour = getComputedStyle(element).color;
    let behind = element;
    while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    return [`${element.tagName}.${element.className}`, colour, getComputedStyle(behind).backgroundColor];
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Language -> its page, of the toys and of every claim's recorded rows, in a folder that has nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        toys.use(patch, tmp_path_factory.mktemp("pages") / "texts")
        results = [*toys.results(), *(recorded_result(name) for name in recorded_names())]
        paths = {language: tmp_path_factory.mktemp(language) / "index.html" for language in ("en", "ko")}
        for language, path in paths.items():
            path.write_text(render(results, RUN, language), encoding="utf-8")
        yield paths


def opened(browser: Browser, path: Path, size: dict[str, int], dark: bool = False) -> Page:
    """The page, once it has been seen to load without a complaint and without asking for anything."""
    context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light", offline=True)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri(), wait_until="load")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    return page


def keep(page: Page, name: str) -> None:
    """A picture of the whole page, for whoever looks at the test run."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
    print(f"screenshot: {ARTIFACTS / name}.png")


def luminance(colour: str) -> float:
    """WCAG's relative luminance of an `rgb(…)`."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio, from 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_known() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize(("device", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_every_figure_is_there(
    browser: Browser, pages: dict[str, Path], language: str, device: str, size: dict[str, int]
) -> None:
    page = opened(browser, pages[language], size)
    for name in NAMES:
        expected = [f"figure-{name}-{figure}" for figure in claim_texts(name, language).figures]
        assert [each.get_attribute("id") for each in page.query_selector_all(f"#{name} figure")] == expected
    panels = page.query_selector_all("figure svg")
    assert len(panels) >= len(NAMES)
    for panel in panels:
        box = panel.bounding_box()
        assert box is not None and box["width"] > 150 and box["height"] > 80
        assert panel.evaluate("svg => [...svg.querySelectorAll('path, image, use')].some(e => e.getBBox().width > 0)")
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "it scrolls sideways"
    keep(page, f"{device}-{language}")
    page.context.close()


def test_text_in_figures_is_legible_on_a_phone(browser: Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["en"], PHONE)
    heights = page.evaluate(
        """() => [...document.querySelectorAll('figure svg text')].filter(text => text.textContent.trim()).map(text =>
            parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().d)"""
    )
    # Exponents are smaller; CSS pixels, of which a phone has more than one dot for each.
    assert heights and sorted(heights)[len(heights) // 5] >= 6
    page.context.close()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_text_stays_in_its_panel(browser: Browser, pages: dict[str, Path], language: str) -> None:
    page = opened(browser, pages[language], DESKTOP)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
            const panel = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < panel.left - 1 || box.right > panel.right + 1;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []
    page.context.close()


def test_korean(browser: Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["ko"], DESKTOP)
    assert page.evaluate("document.documentElement.lang") == "ko"
    letters = re.findall(r"[가-힣]", page.inner_text("main"))
    assert len(letters) > 50 * len(recorded_names())
    page.context.close()


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out(browser: Browser, pages: dict[str, Path], dark: bool) -> None:
    page = opened(browser, pages["en"], DESKTOP, dark)
    colours = page.evaluate(COLOURS, "body, .lead, a, h3, dt, .verdict, .configuration, summary, thead th, code")
    assert len(colours) > 10
    for element, text, background in colours:
        assert contrast(text, background) >= LOWEST_CONTRAST, (element, text, background)
    (_, _, background) = colours[0]
    assert (luminance(background) < 0.1) == dark
    if dark:
        keep(page, "dark-en")
    page.context.close()


def test_it_prints(browser: Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["en"], DESKTOP, dark=True)
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    paper = page.pdf(path=ARTIFACTS / "print-en.pdf", format="A4", prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")
    num_sheets = len(re.findall(rb"/Type\s*/Page\b", paper))
    assert 1 <= num_sheets <= 4 * len(NAMES) + 4
    page.emulate_media(media="print", color_scheme="dark")
    (colours, *_) = page.evaluate(COLOURS, "body")
    assert luminance(colours[2]) > 0.9, "paper is white, whatever the screen is"
    assert not page.locator("details").first.is_visible()
    page.context.close()


def test_keyboards_reach_what_scrolls_and_what_folds(browser: Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["en"], PHONE)
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    table = page.locator("details[open] .scroll").first
    assert table.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    page.context.close()
