"""Other kinds of models: a paragraph, and benchmarks/ARCHITECTURES.md."""

from __future__ import annotations

from typing import Any

from benchmarks.readme_blocks.shared import RESULTS, load, machine, table

__all__ = ["architectures", "architectures_page"]


def architectures() -> str:
    """How many kinds of models pass with default options."""
    report = load(RESULTS / "architectures.json")
    models = report["models"]
    passed = [name for name, entry in models.items() if entry["passed"]]
    exact = [n for n, e in models.items() if e["cpus"] and not any(c["values_differ"] for c in e["cpus"].values())]
    missed = "; ".join(f"`{name}` misses: {', '.join(e['why'])}" for name, e in models.items() if not e["passed"])
    faster = sum(entry["latency"]["ratio"] < 1 for entry in models.values())
    compared = sum(bool(entry["cpus"]) for entry in models.values())
    return (
        f"{len(passed)} of {len(models)} kinds of models pass with default options ({missed}). The int8 files of "
        f"{len(exact)} of {compared} gave the very same bits on an emulated Haswell and Cortex-A72 as here. int8 is "
        f"smaller wherever weights are most of the file, but faster for {faster} only: models this small spend their "
        f"time elsewhere. [All figures](benchmarks/ARCHITECTURES.md)."
    )


def architectures_page() -> str:
    """Every kind of model, a row each."""
    report = load(RESULTS / "architectures.json")
    rows = []
    for name, entry in report["models"].items():
        judged = [_judged(output) for output in entry["outputs"]]
        latency = entry["latency"]
        rows.append(
            [
                f"`{name}`",
                f"{entry['float32_max_abs']:.1e}",
                "; ".join(judged),
                f"{entry['parameters_bytes'] / 1000:,.0f}",
                f"{entry['size_ratio']:.2f}",
                f"{latency['float32']:,.1f}",
                f"{latency['ratio']:.2f} ({latency['low']:.2f} to {latency['high']:.2f})",
                _elsewhere(entry["cpus"]),
                ", ".join(entry["kept_float"]) or "-",
                entry["route"],
                "passed" if entry["passed"] else "; ".join(entry["why"]),
            ]
        )
    columns = [
        "model", "float32, max difference to Keras", "int8: labels as Keras, or relative error", "float32, kB",
        "int8 / float32, size", "float32, p50 of a row, us", "int8 / float32, p50 (95 %)",
        "values that differ on Haswell, Cortex-A72", "in float", "route", "gates",
    ]  # fmt: skip
    return (
        "# Kinds of models\n\n"
        "Written by `make architectures` and `make readme`. Each model of `tests/zoo` is trained for some epochs on "
        "real or made-up rows, exported with default options (`--quantize`, portable scales) and verified on rows that "
        "it has not seen. Latency is `Predictor.predict` of one row in one thread, "
        f"{report['rounds']} interleaved rounds of {report['calls']} calls, each file opened anew in each "
        "round. On the other CPUs, under emulation, the "
        "values before each softmax are compared bit by bit, in batches and one by one.\n\n"
        "`ad01` is MLPerf Tiny's anomaly-detection autoencoder (Keras 2, `.h5`), on rows from `benchmarks/hum.py`, "
        "since its recordings are not ours to ship.\n\n"
        f"{table(columns, rows)}\n\n{machine(report['host'])}.\n"
    )


def _judged(output: dict[str, Any]) -> str:
    figure = (
        f"{output['relative_error']:.2%} error" if output["agreement"] is None else f"{output['agreement']:.2%} alike"
    )
    return f"{output['name']} {figure} of {output['rows']:,}"


def _elsewhere(cpus: dict[str, Any]) -> str:
    return "; ".join(f"{c['values_differ']:,} of {c['values']:,}" for c in cpus.values()) or "not run"
