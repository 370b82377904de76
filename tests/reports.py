"""What the tests of the report share: artifacts with parts taken away, and a look at the page without a browser."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import REFERENCE, ROOT, Finished
from tests.own import command

if TYPE_CHECKING:
    from collections.abc import Callable

_VOID = {"br", "img", "input", "link", "meta"}
SECTIONS = ("data", "network", "live", "training", "results", "export", "provenance")


def copied(folder: Path, source: Path = REFERENCE) -> Path:
    """A copy of an artifact under its own name, to change."""
    target = folder / source.name
    shutil.copytree(source, target)
    for name in ("report.html", "bench.json"):
        (target / name).unlink(missing_ok=True)
    return target


def edit_manifest(artifact: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change manifest.json."""
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def without(artifact: Path, *names: str) -> None:
    """Take files out of an artifact, and out of its manifest."""

    def change(manifest: dict[str, Any]) -> None:
        for name in names:
            manifest["files"].pop(name, None)
            manifest["parity"].pop(name, None)
            manifest["cpus"].pop(name, None)

    edit_manifest(artifact, change)
    for name in names:
        (artifact / name).unlink(missing_ok=True)


def with_bench(artifact: Path, change: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Put a benchmark into a copy of the reference artifact: the committed one, said to be of its files."""
    report = json.loads((ROOT / "benchmarks" / "results" / "bench.json").read_text())
    manifest = json.loads((artifact / "manifest.json").read_text())
    for file in report["files"]:
        file["sha256"] = manifest["files"][file["name"]]["sha256"]
    if change is not None:
        change(report)
    (artifact / "bench.json").write_text(json.dumps(report))


def reported(artifact: Path, *options: object) -> tuple[str, dict[str, Any], Finished]:
    """The page and the JSON of `toolkit report`, which must end well; in this process, which takes half the time."""
    done = command("report", artifact, "--json", *options, cwd=ROOT)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return Path(found["file"]).read_text(encoding="utf-8"), found, done


class Page(HTMLParser):
    """A page as the tests look at it: well-formed, with ids, references and texts.

    Args:
        text: of the page.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.references: list[tuple[str, str, str]] = []  # element, attribute, value
        self.untitled: list[str] = []
        self.texts: list[str] = []
        self.counts: dict[str, int] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if (name := given.get("id")) is not None:
            self.ids.append(name)
        for key in ("href", "src", "srcset", "action", "data", "poster", "xlink:href", "for"):
            if (value := given.get(key)) is not None:
                self.references.append((tag, key, value))
        if tag == "title" and self._open and self._open[-1] == "svg" and self.untitled:
            self.untitled.pop()  # as good as a label
        if (tag == "img" and "alt" not in given) or (tag == "svg" and not given.get("aria-label")):
            self.untitled.append(tag)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that people can read."""
        return " ".join(" ".join(self.texts).split())
