"""MLPerf's part of benchmarks/RESULTS.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Table = Callable[[list[str], list[list[str]]], str]

__all__ = ["mlperf_section", "mlperf_summary"]

PUBLISHED = (
    # board, core and clock, inferences a second, ms, AUC, uJ an inference
    ("NUCLEO-L4R5ZI", "Cortex-M4, 120 MHz", 208.6, 4.79, "0.862", "160.4"),
    ("NUCLEO-U385RG", "Cortex-M33, 96 MHz", 184.9, 5.41, "0.862", "31.8"),
    ("NUCLEO-U575ZI", "Cortex-M33, 160 MHz", 311.6, 3.21, "0.862", "77.2"),
    ("SpacemiT K1", "RISC-V, Linux, 614 MHz", 1356.6, 0.737, "0.873", ""),
    ("SpacemiT K1", "RISC-V, Linux, 1.6 GHz", 3162.5, 0.316, "0.873", ""),
    ("Snapdragon next-gen MTP", "", 14625.0, 0.068, "0.860", ""),
)
"""MLPerf Tiny v1.3, closed division, anomaly detection: mlcommons/tiny_results_v1.3, ad/*/results.txt."""

PARAMETERS, OURS = 265_864, 266_610
"""Weights and biases of the dense layers: of MLPerf Tiny's autoencoder, and of the reference model here."""


def mlperf_section(report: dict[str, Any], table: Table) -> str:
    """The load generator's figures beside ours, and the published ones.

    Args:
        report: of `python -m benchmarks.mlperf`.
        table: makes a table of columns and rows.
    """
    latency, rates = report["latency"], report["samples_per_second"]
    names = {
        "ours": "our timing of `Predictor.classify`",
        "loadgen": "the load generator, SingleStream",
        "inner": "the predictor within the same calls, by our clock",
        "empty": "the load generator with a predictor that does nothing",
    }
    rows = [
        [text, *(f"{latency[name][key]:.2f}" for key in ("p50_us", "p90_us", "p99_us"))] for name, text in names.items()
    ]
    one, offline = report["single_stream"], report["offline"]
    return (
        "## MLPerf's way\n\n"
        "MLPerf's load generator (`mlcommons-loadgen`) drives the predictor with the int8 file, in an environment of "
        f"its own; {report['rounds']} rounds of {report['queries']:,} queries (its rules ask for ten minutes in one), "
        "its log written after each. One piece of code answers in accuracy and performance runs.\n\n"
        f"- Accuracy by its own log: SingleStream {one['accuracy']:.2%} of {one['images']:,}, Offline "
        f"{offline['accuracy']:.2%}; {report['scenarios_differ']} labels differ between the two.\n"
        f"- {_verdict(report)}\n"
        f"- Offline: {rates['offline']:,.0f} samples a second in queries of 24,576. With a predictor that does nothing "
        f"it is {rates['offline_empty']:,.0f}: a response is made, handed over and logged for each sample, in Python. "
        f"`predict_batch` alone: {rates['batches']:,.0f}.\n\n"
        + table(["us", "p50", "p90", "p99"], rows)
        + "\n\n### Beside MLPerf Tiny's published results\n\n"
        f"MLPerf Tiny's anomaly detection is an autoencoder of ten dense layers, {PARAMETERS:,} weights and biases; "
        f"the reference model here has {OURS:,} in three. So an inference is about as many multiply-adds. That is all "
        "that is alike:\n\n"
        "- other machines: microcontrollers, a RISC-V board and a phone's chip, against one core of a desktop "
        "or server CPU. A faster figure here is expected, and no win;\n"
        "- other layers: 128 neurons wide with a bottleneck of 8, against 784, 300 and 100 neurons;\n"
        "- other measuring: theirs includes the harness (a serial line on microcontrollers) and their own runtimes, "
        "and was reviewed; ours is the table above;\n"
        "- theirs is judged by AUC on recordings of machines, ours by accuracy on pictures; energy was measured where "
        "it is given, here it cannot be read.\n\n"
        + table(["", "core", "inferences/s", "latency, ms", "AUC", "uJ an inference"], _published(report))
        + "\n\nPublished: MLPerf Tiny v1.3, closed division (repository `mlcommons/tiny_results_v1.3`, "
        "`ad/*/results.txt`). SpacemiT's is int8 made from ONNX, too."
    )


def _published(report: dict[str, Any]) -> list[list[str]]:
    rows = [[board, core, f"{rate:,.1f}", f"{ms:g}", auc, energy] for board, core, rate, ms, auc, energy in PUBLISHED]
    host, p50 = report["host"], report["latency"]["loadgen"]["p50_us"]
    ours = f"**{host['cpu_model']}** (our model, the load generator's p50)"
    return [*rows, [ours, f"{host['architecture']}, one thread", f"{1e6 / p50:,.0f}", f"{p50 / 1000:.3g}", "", ""]]


def _verdict(report: dict[str, Any]) -> str:
    whole, without, same = (
        _interval(report[key]) for key in ("p90_ratio", "p90_ratio_without_its_own", "p90_ratio_same_calls")
    )
    latency = report["latency"]
    first = f"p90: {latency['loadgen']['p90_us']:.2f} us by the load generator, {latency['ours']['p90_us']:.2f} by us, "
    if report["agree"]:
        return f"{first}which agree within 10 %: ratio {whole}."
    return (
        f"{first}ratio {whole}: they do not agree within 10 %. The load generator's own part, measured with a "
        f"predictor that does nothing, is {latency['empty']['p90_us']:.2f} us; without it the ratio is {without}. In "
        f"the very same calls, our clock and its clock without that part give {same}; what is left is that a call "
        "takes longer when the load generator's work lies between calls than when they follow each other."
    )


def mlperf_summary(report: dict[str, Any]) -> str:
    """A line for the README."""
    latency = report["latency"]
    if report["agree"]:
        agree = "agree within 10 %"
    elif report["agree_without_its_own"]:
        agree = "differ by the load generator's own part of a call"
    else:
        agree = "differ by the load generator's own part, and by what its work between two calls does to the next"
    return (
        f"Under MLPerf's load generator the int8 file's p90 is {latency['loadgen']['p90_us']:.1f} us "
        f"({latency['empty']['p90_us']:.1f} with nothing to compute), by our own timing in the same run "
        f"{latency['ours']['p90_us']:.1f}: they {agree}. Accuracy by its log: "
        f"{report['single_stream']['accuracy']:.2%}."
    )


def _interval(found: dict[str, float]) -> str:
    return f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
