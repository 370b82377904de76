"""The report in a real browser: nothing is asked for, overflows, overlaps or complains; wide, narrow, light, dark.

Chromium is Debian's; Playwright drives it and brings no browser of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.breaking import repin
from tests.looks import (
    BROKEN,
    CHECKS,
    CLIPPED,
    COVERED,
    CROSSING,
    EMPTY,
    OVERFLOWING,
    PALE,
    SCHEMES,
    WIDTHS,
    Look,
    chromium,
    look,
    needs_browser,
)
from tests.reports import SECTIONS, copied, reported, with_bench, without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from chromium()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the reference artifact, with timings, and with a training that overfits and has learning rates."""
    artifact = copied(tmp_path_factory.mktemp("browser"))
    with_bench(artifact)
    lines = ["epoch,accuracy,loss,val_accuracy,val_loss,learning_rate"]
    for at in range(30):
        losses = f"{1 / (at + 1)},0.85,{0.4 + (at - 24) ** 2 / 1000}"
        lines.append(f"{at},{0.7 + at / 100},{losses},{0.001 * (1 - at / 40)}")
    (artifact / "history.csv").write_text("\n".join(lines))
    repin(artifact)
    reported(artifact)
    return artifact / "report.html"


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an artifact that lacks much."""
    artifact = copied(tmp_path_factory.mktemp("poor"))
    without(artifact, "history.csv", "model.int8.onnx", "golden.npz")
    (artifact / "parity.json").unlink()
    reported(artifact)
    return artifact / "report.html"


@pytest.fixture(
    scope="module",
    params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES],
    ids=lambda each: f"{each[0]}-{each[1]}",
)
def seen(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Look]:
    width, scheme = request.param
    found = look(browser, report, width, scheme)
    yield found
    found.page.context.close()


def test_nothing_is_asked_for_and_nothing_complains(seen: Look, report: Path) -> None:
    seen.page.wait_for_timeout(300)
    fetched = [url for url in seen.requests if not url.startswith("data:")]
    assert fetched == [report.as_uri()]
    assert seen.said == []
    assert seen.page.evaluate(BROKEN) == 0


def test_nothing_overflows_or_is_clipped(seen: Look) -> None:
    for opened in (False, True):
        if opened:
            seen.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert seen.page.evaluate(OVERFLOWING) == []
        assert seen.page.evaluate(CLIPPED) == []


def test_texts_do_not_cover_each_other(seen: Look) -> None:
    assert seen.page.evaluate(CROSSING) == []
    assert seen.page.evaluate(COVERED) == []


def test_texts_can_be_read(seen: Look) -> None:
    assert seen.page.evaluate(PALE) == []


def test_everything_is_there(seen: Look) -> None:
    assert seen.page.evaluate(EMPTY) == []
    page = seen.page
    for name in SECTIONS:
        assert page.locator(f"section#{name} h2").is_visible()
    heads = page.locator("h3").all_inner_texts()
    for head in (
        "Some of each class",
        "Class counts",
        "One row, pixel by pixel",
        "Layers and neurons",
        "Parameters and multiply-adds",
        "Neurons at work",
        "Confusion matrix",
        "Precision and recall by class",
        "The most confident mistakes",
        "Calibration",
        "Files",
        "Verdicts",
        "Flips",
        "Error by layer",
        "Other CPUs",
        "Latency and footprint",
        "Settings and versions",
    ):
        assert head in heads
    assert page.locator("#training svg.chart").count() == 3
    assert page.locator("#training .mark-text").all_text_contents() == ["overfits from epoch 25"] * 2
    assert page.locator("#export svg.chart").count() == 2
    assert page.locator("#data .grid img").count() == 120
    assert page.locator("#results .cards img").count() == page.locator("#export .cards img").count() == 24


def test_dark_is_dark(seen: Look) -> None:
    scheme = "dark" if seen.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(map(int, re.findall(r"\d+", paper)[:3]))
    assert (shade < 150) == (scheme == "dark")


SPOILT = [
    (OVERFLOWING, "h2 { width: 120vw }"),
    (CLIPPED, ".lead { overflow: hidden; height: 8px }"),
    (CROSSING, "svg.chart text { font-size: 40px !important }"),
    (COVERED, "h3 { margin-bottom: -1.5em }"),
    (PALE, ":root { --muted: #b0b0b0 !important }"),
    (EMPTY, "#results svg { display: none }"),
]


@pytest.mark.parametrize(("check", "rule"), SPOILT, ids=[rule.split("{")[0].strip() for _, rule in SPOILT])
def test_each_check_sees_what_it_is_there_for(browser: Browser, report: Path, check: str, rule: str) -> None:
    page = look(browser, report, 768, "light").page
    assert page.evaluate(check) == []
    page.add_style_tag(content=rule)
    assert page.evaluate(check) != []
    page.context.close()


def _shown(page: Page) -> list[str]:
    return [str(panel.get_attribute("id")) for panel in page.locator(".panel").all() if panel.is_visible()]


@pytest.mark.parametrize("script", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_row_is_picked_by_click_and_by_key(browser: Browser, report: Path, script: bool) -> None:
    page = look(browser, report, 768, "light", java_script_enabled=script).page
    assert _shown(page) == ["panel-0"]
    picks = page.locator(".picker > label")
    assert picks.count() == 12
    for at in range(12):
        picks.nth(at).click()
        assert _shown(page) == [f"panel-{at}"]
        pictures = page.locator(f"#panel-{at} svg, #panel-{at} img")
        assert pictures.count() == 4
        for picture in pictures.all():
            box = picture.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) > 50
        assert page.locator(f"#panel-{at} svg.cells rect").count() == 400
    page.keyboard.press("ArrowRight")
    assert _shown(page) == ["panel-0"]  # round the corner, as radio buttons go
    page.keyboard.press("ArrowDown")
    assert _shown(page) == ["panel-1"]
    page.keyboard.press("ArrowLeft")
    assert _shown(page) == ["panel-0"]
    page.context.close()


def test_keys_reach_everything(browser: Browser, report: Path) -> None:
    page = look(browser, report, 360, "light").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]  # it is there
    reached = []
    for _ in range(100):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
        )
    # Everything that scrolls within itself can have the focus, and so can what opens and what is picked.
    labels = page.eval_on_selector_all(".scroll", "all => all.filter(e => e.checkVisibility()).map(e => e.ariaLabel)")
    assert set(labels) <= set(reached)
    assert {"A", "INPUT", "SUMMARY"} <= set(reached)
    page.context.close()


def test_links_lead_to_their_sections(browser: Browser, report: Path) -> None:
    page = look(browser, report, 768, "light", reduced_motion="reduce").page
    for name in SECTIONS:
        page.locator(f"nav a[href='#{name}']").click()
        top = page.evaluate(f"document.getElementById('{name}').getBoundingClientRect().top")
        below = page.evaluate("document.querySelector('nav').getBoundingClientRect().bottom")
        end = page.evaluate("Math.abs(scrollY + innerHeight - document.documentElement.scrollHeight) < 2")
        assert abs(top - below) < 40 or end, name
    page.context.close()


def test_on_paper(browser: Browser, report: Path, tmp_path: Path) -> None:
    page = look(browser, report, 794, "dark").page  # A4 at 96 pixels an inch
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    assert page.locator("details:not([open])").count() == 0
    assert _shown(page) == ["panel-0"]
    wide = page.eval_on_selector_all(
        "table", "all => all.filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.ariaLabel)"
    )
    assert wide == []
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_that_lacks_much(browser: Browser, poor: Path, width: int) -> None:
    found = look(browser, poor, width, "light")
    assert found.said == []
    for check in CHECKS:
        assert found.page.evaluate(check) == []
    assert found.page.locator(".missing").count() >= 5
    found.page.context.close()
