"""Other CPUs, other releases of the runtime, other compilers."""

from __future__ import annotations

from typing import Any

from benchmarks.readme_blocks.shared import RESULTS, load, machine, table

__all__ = ["c_targets", "portability", "runtimes"]


def portability() -> str:
    """The reference model's int8 files, with portable and with plain scales, on every emulated CPU."""
    report = load(RESULTS / "portability.json")
    shown = ["portable", "portable, per channel", "plain", "plain, per channel"]
    rows = []
    for at, first in enumerate(report["files"]["portable"]):
        cpu = report["cpus"][first["where"]["cpu"]]
        row = [f"`{cpu['name']}` ({cpu['since']})"]
        for name in shown:
            entry = report["files"][name][at]
            row.append(f"{entry['labels_differ']:,} / {entry['logits_differ']:,}")
        rows.append(row)
    every = report["files"]["portable"]
    softmax = max(entry["probabilities_max_abs"] for entry in every)
    dynamic = report["files"]["portable, dynamic"]
    images, logits = every[0]["images"], every[0]["logits"]
    return (
        table(["labels / logits that differ", *(f"{name} scales" for name in shown)], rows)
        + f"\n\nOf {images:,} labels and {logits:,} logits (compared bit for bit), against this machine: "
        f"{machine(report['host'])}. Emulated by {every[0]['where']['emulator']}. Probabilities of the portable file "
        f"differ by up to {softmax:.1e}: the softmax is float arithmetic. Of the portable dynamic file "
        f"{sum(e['labels_differ'] for e in dynamic)} labels differ, and logits by up to "
        f"{max(e['logits_max_abs'] for e in dynamic):.1e}. Too old for the wheels: "
        f"{'; '.join(_refusal(text) for text in report['too_old'].values())}."
    )


def _refusal(text: str) -> str:
    """An error line without its advice."""
    return text.rsplit("; ", 1)[0].replace(". (", " (")


def runtimes() -> str:
    """The reference bundle's self-test on Pythons, releases of the runtime and emulated CPUs."""
    report = load(RESULTS / "runtimes.json")
    rows = []
    for key, how in (("pythons", "folder"), ("runtimes", "wheel"), ("cpus", "wheel")):
        for entry in report[key]:
            versions = entry.get("versions") or {}
            shown = [str(versions.get(name, "")) for name in ("machine", "python", "numpy", "onnxruntime")]
            emulated = f", {entry['emulator']}" if "emulator" in entry else ""
            rows.append([f"{entry['what']}{emulated} ({how})", *shown, _verdict(entry)])
    bundle = report["bundle"]
    return (
        table(["where", "machine", "Python", "numpy", "onnxruntime", "self-test"], rows)
        + f"\n\nThe bundle of the reference artifact (`{bundle['model']}`, target `{bundle['target']}`): its folder "
        "with its own `requirements.txt` under `--require-hashes`, and one and the same wheel file elsewhere. It asks "
        f"for onnxruntime {bundle['onnxruntime']} or newer; the pinned wheels need glibc {bundle['glibc']}.\n\n"
        f"{machine(report['host'])}."
    )


def _verdict(entry: dict[str, Any]) -> str:
    """How a self-test ended."""
    if entry["as_expected"] is None:
        return "not tried: not on that machine"
    if not entry["as_expected"]:
        return f"**wrong**: {entry.get('error')}"
    if entry["exit_code"]:
        return f"refused, as it has to be (exit {entry['exit_code']})"
    return f"passed: {entry['checks']['labels']}, {entry['checks']['values']}"


def c_targets(report: dict[str, Any]) -> str:
    """The reference model's C code on every target: bits, instructions, what a microcontroller needs.

    Args:
        report: of `benchmarks/c_targets.py`.
    """
    rows, uncounted = [], dict[str, list[str]]()
    for entry in report["targets"]:
        made, found = entry["made"], entry["footprint"]
        name = f"`{made['target']}`"
        if entry["verdict"] == "not run":
            rows.append([name, made["machine"], f"not run: {entry['reason']}", *[""] * 5])
            continue
        if found["instructions"] is None:
            uncounted.setdefault(found.get("not_counted") or "", []).append(name)
        answered = entry["rows"] - entry["unanswered"]
        rows.append(
            [
                name,
                made["machine"],
                f"{made['compiler']} `{made['flags']}`",
                f"{answered:,}",
                f"{entry['logits_differ']:,} of {entry['logits']:,}" if answered else f"**{entry['reason']}**",
                *("-" if found[key] is None else f"{found[key]:,}" for key in ("instructions", "flash", "ram")),
            ]
        )
    columns = [
        "target", "runs on", "compiler", "images compared", "logits that differ", "instructions an inference",
        "flash, bytes", "RAM, bytes",
    ]  # fmt: skip
    labels = [entry for entry in report["targets"] if entry.get("labels")]
    wrong = sum(entry["labels_differ"] for entry in labels)
    told = f" On {len(labels)} targets its labels were asked for as well: {wrong} are others." if labels else ""
    why = "; ".join(f"{', '.join(names)}{f' ({reason})' if reason else ''}" for reason, names in uncounted.items())
    model = report["model"]
    return (
        f"{table(columns, rows)}\n\nOf `{model['file']}`, bit by bit against onnxruntime on this machine.{told} "
        "Instructions are the portable figure of cost, since emulated time means nothing: counted by callgrind here, "
        "by qemu one by one elsewhere, on Cortex-M by its own timer under qemu."
        f"{f' Not counted: {why}.' if why else ''} Flash and RAM are those of a whole image, its stack included. "
        f"{_limits(report)}\n\n"
        f"{machine(report['host'])}, `make c-targets`."
    )


def _limits(report: dict[str, Any]) -> str:
    """What the library takes beside the weights, and how long compilers take."""
    library, compiling = report["limits"]
    slowest = max((entry["made"]["compile_seconds"] or 0.0, entry["made"]["target"]) for entry in report["targets"])
    return (
        f"`model.so` takes {library['got']:.2f} of the weights' bytes (at most {library['most']}); compilers for "
        f"this machine take up to {compiling['got']:.1f} s (at most {compiling['most']:.0f}), the slowest of all, "
        f"`{slowest[1]}`, {slowest[0]:.1f} s."
    )
