"""The pages as a browser shows them: nothing is loaded, nothing fails, and a keyboard is enough."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from cluster.storage import LocalStore
from jobs.report.comparison import write_comparison
from jobs.report.page import write_report
from tests.report_fixture import comparison_result, quality_run

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = LocalStore(quality_run(tmp_path_factory.mktemp("report")))
    write_report(run)
    return Path(run.fetch("report.html"))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = LocalStore(tmp_path_factory.mktemp("comparison"))
    write_comparison(folder, comparison_result())
    return Path(folder.fetch("comparison.html"))


def opened(browser: Browser, path: Path, **given: Any) -> tuple[Page, list[str]]:
    """A page, and everything that it asked for or complained of."""
    page, said = browser.new_page(**given), list[str]()

    def told(message: ConsoleMessage) -> None:
        said.append(f"console: {message.text}")

    page.on("console", told)
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    return page, [each for each in said if each != f"request: {path.as_uri()}"]


@pytest.mark.parametrize("which", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_asks_for_nothing_and_complains_of_nothing(
    browser: Browser, request: pytest.FixtureRequest, which: str, scheme: str
) -> None:
    page, said = opened(browser, request.getfixturevalue(which), color_scheme=scheme)
    assert said == []
    assert page.locator("svg[role=img]").count() >= 1
    for chart in page.locator("svg[role=img]").all():
        box = chart.bounding_box()
        assert box is not None and box["width"] > 100 and box["height"] > 50
        assert chart.get_attribute("aria-label")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_of_charts_are_readable_on_either_ground(browser: Browser, report: Path, scheme: str) -> None:
    page, _ = opened(browser, report, color_scheme=scheme)
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    inks = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)"
    )
    assert inks
    assert min(contrast(ground, luminance(ink)) for ink in set(inks) - {"rgb(255, 255, 255)"}) >= 4.5
    page.close()


def test_a_keyboard_reaches_what_is_folded_away_and_the_links_lead_somewhere(
    browser: Browser, report: Path
) -> None:
    page, _ = opened(browser, report)
    links = page.locator("#worries a").all()
    assert links
    for link in links:
        target = (link.get_attribute("href") or "").removeprefix("#")
        assert page.locator(f'[id="{target}"]').count() == 1, target
    folded = page.locator("details:not([open]) > summary").first
    folded.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open") is True
    page.close()


def test_a_narrow_screen_has_no_sideways_scroll(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_what_is_folded_away_is_printed(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    page.emulate_media(media="print")
    hidden = page.locator("details:not([open]) .said").first
    assert hidden.count() == 0 or hidden.is_visible()
    page.close()


def luminance(colour: str) -> float:
    """Relative luminance of rgb(…), as WCAG 2 has it."""
    channels = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
