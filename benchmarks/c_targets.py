"""The reference model's C code on every target, over the whole test set, held against the int8 file's bits.

    python benchmarks/c_targets.py         (`make c-targets`; writes benchmarks/results/c_targets.json)

The code is written from the committed int8 file, compiled for each target and run there, under emulation where that is
another machine. Emulated time means nothing, so none is written; instructions are counted. A target whose compiler or
emulator is not on this system has a row that names the package. The size of the library that `export --native` makes
and the time that this machine's compilers take are held against what they may be. Exits 1 if a bit differs anywhere, or
one of the two is missed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.host import describe_host
from toolkit.c_code.library import build_library
from toolkit.c_code.reading import read_chain
from toolkit.c_code.source import write_source
from toolkit.c_targets.check import check_code, ready
from toolkit.c_targets.table import choose
from toolkit.conversion.logits import logits_of
from toolkit.data import load
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.c_code.chain import Chain
    from toolkit.c_code.source import CSource
    from toolkit.verification.c_targets import CTargetCheck

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "exported" / "fashion-mnist"
NAME = "model.int8.onnx"
LIBRARY_MOST, SECONDS_MOST = 1.25, 5.0  # times the weights' bytes; seconds to compile


def main() -> None:
    """Write the code, run it, compare and write."""
    images = load(note=print).test_images
    data = (REFERENCE / NAME).read_bytes()
    chain = read_chain(data)
    source = write_source(chain, REFERENCE.name)
    expected = logits_of(data, NAME, {"image": images})
    found = check_code(source.code, source.header, images, expected, ready(choose(["all"])), _told)
    report: dict[str, Any] = {
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
        "limits": limits(_library_bytes(chain, source, images), chain, found),
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
    if missed := [limit for limit in report["limits"] if not limit["met"]]:
        sys.exit("error: " + "; ".join(f"{it['what']} is {it['got']:.2f}, at most {it['most']}" for it in missed))


def limits(library_bytes: int, chain: Chain, found: Sequence[CTargetCheck]) -> list[dict[str, Any]]:
    """What size and compile time come to, each with the most that it may be.

    Args:
        library_bytes: of the library.
        chain: the model.
        found: the targets; those on this machine count.
    """
    weights = sum(layer.weights.size for layer in chain.layers)
    here = [check.made for check in found if check.made.machine == "this machine" and check.made.compile_seconds]
    slowest = max(here, key=lambda made: made.compile_seconds or 0.0)
    entries: list[dict[str, Any]] = [
        {"what": "bytes of model.so / bytes of weights", "got": library_bytes / weights, "most": LIBRARY_MOST},
        {"what": f"seconds to compile, {slowest.target}", "got": slowest.compile_seconds, "most": SECONDS_MOST},
    ]
    return [{**entry, "met": entry["got"] <= entry["most"]} for entry in entries]


def _library_bytes(chain: Chain, source: CSource, images: NDArray[Any]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model.c").write_text(source.code, encoding="utf-8")
        (folder / "model.h").write_text(source.header, encoding="utf-8")
        return build_library(chain, REFERENCE.name, folder, folder / "model.so", images, None).path.stat().st_size


def _told(done: int, total: int, what: str) -> None:
    print(f"{done} of {total} {what}", flush=True)


if __name__ == "__main__":
    main()
