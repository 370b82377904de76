"""What the compiled model may take in bytes and in seconds: judged by `make c-targets`."""

from __future__ import annotations

import pytest

from benchmarks.c_targets import limits
from tests.wasm import reference_chain
from toolkit.c_targets.table import choose
from toolkit.verification.c_targets import Made, not_run


@pytest.mark.parametrize(("times", "seconds", "met"), [(1.2, 4.9, [True, True]), (1.3, 5.1, [False, False])])
def test_more_bytes_or_seconds_are_missed(times: float, seconds: float, met: list[bool]) -> None:
    chain = reference_chain()
    weights = sum(layer.weights.size for layer in chain.layers)
    here, other = choose(["gcc-O2", "riscv64"]).targets
    found = [
        not_run(Made(target.name, target.machine, "", "", "", compile_seconds=taken), "")
        for target, taken in ((here, seconds), (other, 60.0))  # a cross compiler's time does not count
    ]
    judged = limits(int(times * weights), chain, found)
    assert [entry["met"] for entry in judged] == met
    assert judged[1]["got"] == seconds
