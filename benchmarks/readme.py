"""Writes the measured figures and the command's own help where people read them.

That is README.md, between its markers, benchmarks/ARCHITECTURES.md, DEVICE.md, RESULTS.md and its plots.

    python benchmarks/readme.py              (`make readme`)
    python benchmarks/readme.py --check      exits 1 if these are not what the files say

Every figure comes from a file that a command wrote: the reference artifact's manifest and benchmarks/results/*.json.
"""

from __future__ import annotations

import re
import sys

from benchmarks.device.page import device_page, summary
from benchmarks.peers import page as peers
from benchmarks.readme_blocks import commands, elsewhere, models, speed, trained
from benchmarks.readme_blocks.shared import RESULTS, ROOT, load, machine, table

README = ROOT / "README.md"
ARCHITECTURES = ROOT / "benchmarks" / "ARCHITECTURES.md"
DEVICE = ROOT / "benchmarks" / "DEVICE.md"
COMPARED = ROOT / "benchmarks" / "RESULTS.md"
PLOTS = ROOT / "benchmarks" / "plots"


def main() -> int:
    """Write or check; the exit code."""
    measured, compared = load(RESULTS / "device.json"), load(RESULTS / "peers.json")
    pages = {
        README: render(README.read_text(encoding="utf-8")),
        ARCHITECTURES: models.architectures_page(),
        DEVICE: device_page(measured, machine(measured["host"]), table),
        COMPARED: peers.results_page(compared, load(RESULTS / "mlperf.json"), machine(compared["host"]), table),
        **{PLOTS / name: plot for name, plot in peers.plots(compared).items()},
    }
    for path, current in pages.items():
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(current, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != current:
            print(f"{path.name} is not what the results say; run: make readme", file=sys.stderr)
            return 1
    return 0


def render(text: str) -> str:
    """The README with every block between ``<!-- begin:NAME -->`` and ``<!-- end:NAME -->`` made anew."""
    blocks = {
        "accuracy": trained.accuracy(),
        "latency": speed.latency(),
        "harness": speed.harness(),
        "overhead": speed.overhead(),
        "device": summary(load(RESULTS / "device.json")),
        "peers": peers.summary(load(RESULTS / "peers.json"), load(RESULTS / "mlperf.json"), table),
        "training": trained.training(),
        "setup": commands.setup(),
        "demo": commands.demo(),
        "portability": elsewhere.portability(),
        "c-targets": elsewhere.c_targets(load(RESULTS / "c_targets.json")),
        "runtimes": elsewhere.runtimes(),
        "quantization": trained.quantization(),
        "quantization-aware": trained.quantization_aware(),
        "architectures": models.architectures(),
        "help": commands.command_help(),
    }
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
        parts = pattern.split(text)  # before, the first marker, the last marker, after
        if len(parts) != 4:
            raise SystemExit(f"README.md has {len(parts) // 3} blocks named {name}, expected one")
        text = f"{parts[0]}{parts[1]}{block}\n{parts[2]}{parts[3]}"
    return text


if __name__ == "__main__":
    sys.exit(main())
