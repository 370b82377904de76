"""Pieces of SVG that every picture here is made of: colours for light and dark, and text that fits."""

from __future__ import annotations

import re
import unicodedata
from xml.sax.saxutils import escape

__all__ = ["BOLD", "clean", "document", "fitted", "inlined", "printable", "text", "text_width", "tooltip"]

BOLD = 1.12
"""How much wider bold text is, at most."""

# Widths in ems, of the widest fonts that "sans-serif" commonly stands for (Verdana, DejaVu Sans), rounded up.
_NARROW = dict.fromkeys("ijlI.,:;|!'` ", 0.42) | dict.fromkeys('frt()[]{}-/\\"*', 0.5)
_WIDE = dict.fromkeys("mMW@%\u2026", 1.08) | dict.fromkeys("wGOQDNHUCAVRKXY&+=<>~#", 0.9)
_OTHERS = 0.74

_STYLE = """
text { font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; fill: #1f2328 }
.paper { fill: #ffffff } .small { font-size: 11px; fill: #59636e } .name { font-size: 12px; font-weight: 600 }
.title { font-size: 15px; font-weight: 600 } .line { fill: none; stroke: #8c959f; stroke-width: 1.3 }
.head { fill: #8c959f } .web { stroke: #8c959f; stroke-width: 0.6; stroke-opacity: 0.45 }
.box { fill: #f6f8fa; stroke: #afb8c1 } .input { fill: #fff4d6; stroke: #bf8700 } .dots { fill: #59636e }
.weights { fill: #ddf4ff; stroke: #218bff } .output { fill: #dafbe1; stroke: #2da44e }
.frame { fill: none; stroke: #8250df; stroke-dasharray: 5 4 } .frame-name { font-size: 11px; fill: #8250df }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .paper { fill: #0d1117 } .small { fill: #9da7b3 } .line { stroke: #768390 }
.head { fill: #768390 } .web { stroke: #768390 } .box { fill: #1c2128; stroke: #57606a } .dots { fill: #9da7b3 }
.input { fill: #3b2e0a; stroke: #d29922 } .weights { fill: #0c2d4d; stroke: #4493f8 }
.output { fill: #0f2e1a; stroke: #3fb950 } .frame { stroke: #a371f7 } .frame-name { fill: #c297ff }
}
""".strip()


def document(width: float, height: float, title: str, parts: list[str]) -> str:
    """A whole file that needs nothing else.

    Args:
        width: of the picture, in pixels.
        height: of the picture.
        title: what a screen reader says of it.
        parts: what it shows, in drawing order.
    """
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{clean(title)}</title>",
        f"<style>{_STYLE}</style>",
        arrow,
        '<rect class="paper" width="100%" height="100%"/>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def inlined(picture: str) -> str:
    """A picture of `document`'s to stand in a page, which brings the style for it.

    A style sheet that stands in a page's picture would be the whole page's.
    """
    without = re.sub(r"<style>.*?</style>\n", "", picture, count=1, flags=re.DOTALL)
    for left_out in ('<rect class="paper" width="100%" height="100%"/>\n', ' xmlns="http://www.w3.org/2000/svg"'):
        without = without.replace(left_out, "", 1)
    return without


def text(x: float, y: float, said: str, kind: str, anchor: str = "middle") -> str:
    """One line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{clean(said)}</text>'


def tooltip(said: str) -> str:
    """What is shown when the pointer rests on what it is in."""
    return f"<title>{clean(said)}</title>"


def text_width(said: str, size: float, *, bold: bool = False) -> float:
    """The most that a text can take in pixels, whatever the font."""
    ems = sum(_em(character) for character in said)
    return ems * size * (BOLD if bold else 1)


def fitted(said: str, size: float, width: float, *, bold: bool = False) -> str:
    """The text, with its middle left out if it is wider than that."""
    said = printable(said)
    if text_width(said, size, bold=bold) <= width:
        return said
    for kept in range(min(len(said) - 1, 200), 1, -1):
        front = kept // 2
        shorter = f"{said[:front]}\u2026{said[len(said) - (kept - front) :]}"
        if text_width(shorter, size, bold=bold) <= width:
            return shorter
    return "\u2026"


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF" or ord(character) > 0x2FFF:
        return 1.2
    if unicodedata.combining(character):
        return 0.1
    if character in _NARROW:
        return _NARROW[character]
    if character in _WIDE:
        return _WIDE[character]
    return _OTHERS if ord(character) < 0x250 else 0.95


def printable(said: str) -> str:
    """Without what XML cannot hold: control characters, halves of characters, and marks that turn the direction."""
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Cn") or c in "\u202a\u202b\u202c\u202d\u202e" else c
        for c in said
    )


def clean(said: str) -> str:
    """Text as XML and HTML can hold it, in an element or in an attribute with double quotes."""
    return escape(printable(said), {'"': "&quot;"})
