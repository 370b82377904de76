"""The toolkit's own files that measure on a board: ``toolkit.benchmarking`` and whatever it imports of the toolkit."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import toolkit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MODULE", "needed_files"]

MODULE = "toolkit.benchmarking"
_ROOT = Path(toolkit.__file__).parent


def needed_files() -> dict[str, bytes]:
    """Bytes by path ("toolkit/errors.py"), found by reading the import statements, those inside functions too."""
    package = _ROOT / "benchmarking"
    waiting = [path for path in sorted(package.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    files: dict[str, bytes] = {}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(_ROOT.parent).as_posix()
        if name in files:
            continue
        files[name] = path.read_bytes()
        if path.suffix == ".py":
            waiting += [found for module in _imported(ast.parse(files[name])) for found in _files_of(module)]
    return dict(sorted(files.items()))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names that may be modules of the toolkit; what stands below ``if TYPE_CHECKING`` costs no more than its bytes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(module: str) -> Iterator[Path]:
    """A module's file, and those of the packages that it is in; nothing of a name that is no module of ours."""
    parts = module.split(".")
    if parts[0] != "toolkit":
        return
    for end in range(1, len(parts) + 1):
        place = _ROOT.joinpath(*parts[1:end])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                yield path
