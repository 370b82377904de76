"""A look at a report in Debian's Chromium, driven by Playwright, which brings no browser of its own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS, SCHEMES = (360, 768, 1400), ("light", "dark")

# What is laid out is asked of the browser itself. Elements that scroll within themselves may be wider than the page.
OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter((each) => {
  if (each.closest(".scroll, svg, nav ul") || each.matches(".skip, .picker > input")) return false;
  const box = each.getBoundingClientRect();
  return box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((each) => each.outerHTML.slice(0, 120))"""

CLIPPED = """() => [...document.querySelectorAll("body *")].filter((each) => {
  if (each.closest("svg") || each.matches(".scroll, nav ul") || !each.clientWidth) return false;
  const hides = getComputedStyle(each).overflowX !== "visible" || getComputedStyle(each).overflowY !== "visible";
  return hides && (each.scrollWidth > each.clientWidth + 1 || each.scrollHeight > each.clientHeight + 1);
}).map((each) => each.outerHTML.slice(0, 120))"""

# Texts of a picture that cross each other, or leave it.
CROSSING = """() => {
  const found = [];
  for (const svg of document.querySelectorAll("svg")) {
    const all = svg.getBoundingClientRect();
    if (!all.width) continue;
    const texts = [...svg.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
    texts.forEach(([text, a], at) => {
      if (a.left < all.left - 1 || a.right > all.right + 1 || a.top < all.top - 1 || a.bottom > all.bottom + 1)
        found.push(`${svg.getAttribute("aria-label") || "diagram"}: ${text.textContent} leaves`);
      for (const [other, b] of texts.slice(at + 1)) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        // Line boxes are taller than letters.
        if (wide > 1 && tall > 0.45 * Math.min(a.height, b.height))
          found.push(`${svg.getAttribute("aria-label") || "diagram"}: ${text.textContent} / ${other.textContent}`);
      }
    });
  }
  return found;
}"""

# Texts of the page itself: no two of them may cover each other.
COVERED = """() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.textContent.trim() || parent.closest("svg, .scroll") || !parent.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const said = node.textContent.trim().slice(0, 40);
    for (const box of range.getClientRects()) if (box.width > 1) boxes.push([said, box]);
  }
  const found = [];
  boxes.sort((a, b) => a[1].top - b[1].top);
  boxes.forEach(([text, a], at) => {
    for (let next = at + 1; next < boxes.length && boxes[next][1].top < a.bottom; next++) {
      const [other, b] = boxes[next];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && tall > 0.45 * Math.min(a.height, b.height)) found.push(`${text} / ${other}`);
    }
  });
  return found;
}"""

# Contrast by WCAG 2 of every text outside of pictures, beside the first background that is not transparent.
PALE = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
  const behind = (each) => {
    const layers = [];
    for (let at = each; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const found = new Set();
  for (const each of document.querySelectorAll("body *")) {
    if (each.closest("svg") || ![...each.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    if (!each.getClientRects().length || each.matches("script, style")) continue;
    const back = behind(each), front = over(parse(getComputedStyle(each).color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.add(`${each.className || each.tagName}: ${each.textContent.slice(0, 30)}`);
  }
  return [...found];
}"""

EMPTY = """() => [...document.querySelectorAll("section, section h2, section h3, img, svg, table, .tiles > div")]
  .filter((each) => !each.closest("details:not([open]), .panel") && !(each.getBoundingClientRect().width > 4
    && each.getBoundingClientRect().height > 4)).map((each) => each.outerHTML.slice(0, 120))"""

BROKEN = """() => [...document.images].filter((each) => !each.complete || !each.naturalWidth).length"""


@dataclass
class Look:
    """A page that was opened, and what came of it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


CHECKS = (OVERFLOWING, CLIPPED, CROSSING, COVERED, PALE, EMPTY)

needs_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("TOOLKIT_REQUIRE_BROWSER") != "1", reason="chromium is not installed"
)


def chromium() -> Iterator[Browser]:
    """What a fixture yields: one browser for a file's tests."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "chromium is not installed; run: apt-get install chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def look(browser: Browser, path: Path, width: int, scheme: Any, **options: Any) -> Look:
    """Open a page, in a context of its own."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    found = Look(context.new_page())
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.goto(path.as_uri())
    return found
