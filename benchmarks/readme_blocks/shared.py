"""Where results are, and how figures are written, for all blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "ROOT", "interval", "load", "machine", "table"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def load(path: Path) -> Any:
    """What a file of JSON holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, its first column to the left and the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(host: dict[str, Any]) -> str:
    """One line that names the machine of a result."""
    notable = [
        f for f in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm") if f in host["cpu_features"]
    ]
    return (
        f"{host['cpu_model']} ({host['architecture']}; {', '.join(notable)}), {host['logical_cores']} cores"
        f"{', virtual machine' if host['virtualized'] else ''}, {host['operating_system']}, Python {host['python']}, "
        f"onnxruntime {host['onnxruntime']}, numpy {host['numpy']}"
    )


def interval(ratio: dict[str, Any]) -> str:
    """A ratio with its interval."""
    return f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
