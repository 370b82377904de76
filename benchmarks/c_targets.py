"""The reference model's C code on every target, over the whole test set, held against the int8 file's bits.

    python benchmarks/c_targets.py         (`make c-targets`; writes benchmarks/results/c_targets.json)

The code is written from the committed int8 file, compiled for each target and run there, under emulation where that is
another machine. Emulated time means nothing, so none is written; instructions are counted. A target whose compiler or
emulator is not on this system has a row that names the package. Exits 1 if a bit differs anywhere.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from toolkit.benchmarking.host import describe_host
from toolkit.c_code.reading import read_chain
from toolkit.c_code.source import write_source
from toolkit.c_targets.check import check_code, ready
from toolkit.c_targets.table import choose
from toolkit.conversion.logits import logits_of
from toolkit.data import load
from toolkit.publishing import write_atomic

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "exported" / "fashion-mnist"
NAME = "model.int8.onnx"


def main() -> None:
    """Write the code, run it, compare and write."""
    images = load(note=print).test_images
    data = (REFERENCE / NAME).read_bytes()
    source = write_source(read_chain(data), REFERENCE.name)
    expected = logits_of(data, NAME, {"image": images})
    found = check_code(source.code, source.header, images, expected, ready(choose(["all"])), _told)
    report = {
        "format": 1,
        "host": asdict(describe_host()),
        "model": {
            "file": f"{REFERENCE.relative_to(ROOT)}/{NAME}",
            "sha256": hashlib.sha256(data).hexdigest(),
            "c_sha256": hashlib.sha256(source.code.encode()).hexdigest(),
            "constant_bytes": source.flash_bytes,
            "scratch_bytes": source.ram_bytes,
        },
        "rows": len(images),
        "targets": [asdict(check) for check in found],
    }
    write_atomic(ROOT / "benchmarks" / "results" / "c_targets.json", json.dumps(report, indent=1) + "\n")
    for check in found:
        print(
            f"{check.made.target} ({check.made.compiler}): {check.verdict}; {check.logits_differ} of {check.logits} "
            f"logits differ{'' if check.reason is None else '; ' + check.reason}"
        )
    if bad := [check.made.target for check in found if check.verdict == "failed"]:
        sys.exit(f"error: the C code answers otherwise, or not at all, on: {', '.join(bad)}")


def _told(done: int, total: int, what: str) -> None:
    print(f"{done} of {total} {what}", flush=True)


if __name__ == "__main__":
    main()
