"""Writes the measured figures and the command's own help where people read them.

That is README.md, between its markers, benchmarks/ARCHITECTURES.md, DEVICE.md, RESULTS.md and its plots.

    python benchmarks/readme.py              (`make readme`)
    python benchmarks/readme.py --check      exits 1 if these are not what the files say

Every figure comes from a file that a command wrote: the reference artifact's manifest and benchmarks/results/*.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.device.page import device_page, summary
from benchmarks.peers import page as peers

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
ARCHITECTURES = ROOT / "benchmarks" / "ARCHITECTURES.md"
DEVICE = ROOT / "benchmarks" / "DEVICE.md"
COMPARED = ROOT / "benchmarks" / "RESULTS.md"
PLOTS = ROOT / "benchmarks" / "plots"


def main() -> int:
    """Write or check; the exit code."""
    measured, compared = _load(RESULTS / "device.json"), _load(RESULTS / "peers.json")
    pages = {
        README: render(README.read_text(encoding="utf-8")),
        ARCHITECTURES: architectures_page(),
        DEVICE: device_page(measured, machine(measured["host"]), _table),
        COMPARED: peers.results_page(compared, _load(RESULTS / "mlperf.json"), machine(compared["host"]), _table),
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
        "accuracy": accuracy(),
        "latency": latency(),
        "harness": harness(),
        "overhead": overhead(),
        "device": summary(_load(RESULTS / "device.json")),
        "peers": peers.summary(_load(RESULTS / "peers.json"), _load(RESULTS / "mlperf.json"), _table),
        "training": training(),
        "setup": setup(),
        "demo": demo(),
        "portability": portability(),
        "runtimes": runtimes(),
        "quantization": quantization(),
        "quantization-aware": quantization_aware(),
        "architectures": architectures(),
        "help": command_help(),
    }
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.DOTALL)
        parts = pattern.split(text)  # before, the first marker, the last marker, after
        if len(parts) != 4:
            raise SystemExit(f"README.md has {len(parts) // 3} blocks named {name}, expected one")
        text = f"{parts[0]}{parts[1]}{block}\n{parts[2]}{parts[3]}"
    return text


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _table(columns: list[str], rows: list[list[str]]) -> str:
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


def accuracy() -> str:
    """Keras, float32 and int8 of the reference artifact on the whole test set."""
    manifest = _load(ROOT / "exported" / "fashion-mnist" / "manifest.json")
    first = next(iter(manifest["parity"].values()))[0]
    rows = [
        ["`model.keras`", f"{first['keras_accuracy']:.2%}", "", "", f"{manifest['files']['model.keras']['bytes']:,}"]
    ]
    for name, (parity,) in manifest["parity"].items():
        same = round(parity["agreement"] * parity["rows"])
        rows.append(
            [
                f"`{name}`",
                f"{parity['accuracy']:.2%}",
                f"{same:,} of {parity['rows']:,}",
                f"{parity['max_abs']:.1e}",
                f"{manifest['files'][name]['bytes']:,}",
            ]
        )
    training = manifest["training"]
    recipe = training["recipe"]
    # Before recipes had a version, the one named default was another.
    named = (
        f"Recipe `{recipe['name']}`" if "format" in recipe else f"An earlier recipe ({recipe['optimizer']}, no teacher)"
    )
    return (
        _table(["file", "test accuracy", "labels as Keras", "largest difference", "bytes"], rows)
        + f"\n\n{named}, seed {training['seed']}, {training['epochs_run']} epochs in "
        f"{training['seconds']:.0f} s. One seed: another moves accuracy by some tenths of a point."
    )


def training() -> str:
    """What each recipe gives over its seeds, and how fast the default one trains."""
    report = _load(RESULTS / "training.json")
    rows = []
    for name, entry in report["recipes"].items():
        models, found = entry["models"], entry["summary"]
        whole = [model for model in models if model["own_teachers"] is not False]
        seconds = sorted(model["seconds"] for model in whole)
        rows.append(
            [
                f"`{name}`",
                f"{found['seeds']}",
                f"{seconds[0]:.0f} to {seconds[-1]:.0f} s",
                *(
                    f"{found[kind]['mean']:.2%} ({found[kind]['least']:.2%} to {found[kind]['most']:.2%})"
                    for kind in ("validation_accuracy", "float32", "int8")
                ),
                f"{found['int8_agreement_with_keras']['mean']:.2%}",
            ]
        )
    columns = [
        "recipe", "seeds", "training", "validation", "test, float32", "test, int8", "labels of int8 as Keras",
    ]  # fmt: skip
    shared = [
        f"{sum(m['own_teachers'] is False for m in e['models'])} of {len(e['models'])} `{name}` models learn from the "
        "first one's teachers, and their time is left out"
        for name, e in report["recipes"].items()
        if any(m["own_teachers"] is False for m in e["models"])
    ]
    epochs = report["speed"]["median_seconds"]
    text = "Means, least and most. int8 has one weight scale an output channel. "
    text += f"{'; '.join(shared)}. " if shared else ""
    if missing := [name for name in ("notebook", "default", "best") if name not in report["recipes"]]:
        text += f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}. "
    if "notebook" in report["recipes"]:
        models = report["recipes"]["notebook"]["models"]
        reached, best = (
            sum(model[key] for model in models) / len(models) for key in ("train_accuracy", "best_validation_accuracy")
        )
        text += (
            f"`notebook` reaches a training accuracy of {reached:.2%} and at best {best:.2%} on validation, on "
            "average; the notebook printed 95.84 % and 89.56 %. "
        )
    return (
        f"{_table(columns, rows)}\n\n{text}An epoch of `{report['speed']['recipe']}` takes {epochs:.2f} s (median, "
        f"55,000 images).\n\n{machine(report['host'])}, `make training`."
    )


def latency() -> str:
    """The reference artifact through the predictor."""
    report = _load(RESULTS / "bench.json")
    rows, names = [], {file["name"]: file["kind"] for file in report["files"]}
    for file in report["files"]:
        found = file["scenarios"]
        times, rate, best = (
            found["single-stream"]["latency"],
            found["fixed-rate"]["latency"],
            found["throughput"]["best"],
        )
        rows.append(
            [
                f"`{file['name']}`",
                *(f"{times[key] / 1000:.1f}" for key in ("p50_ns", "p90_ns", "p99_ns", "p999_ns")),
                f"{rate['p50_ns'] / 1000:.1f} / {rate['p99_ns'] / 1000:.1f}",
                f"{best['rows_per_second']:,.0f}",
                f"{found['cpu-time']['process_ns'] / 1000:.1f}",
                f"{found['cold-start']['total_ms']:.0f}",
                f"{found['memory']['work_bytes'] / 1e6:.0f}",
            ]
        )
    columns = [
        "one thread", "p50, us", "p90", "p99", "p99.9", "at a fixed rate, p50 / p99", "images/s, all cores",
        "CPU time, us", "cold start, ms", "peak memory, MB",
    ]  # fmt: skip
    first = report["files"][0]["scenarios"]
    spread = ", ".join(
        f"{f['scenarios']['single-stream']['latency']['spread']:.0%} ({f['kind']})" for f in report["files"]
    )
    ratios = "; ".join(
        f"{names[entry['file']]} takes {_interval(entry['p50'])} of the time of {names[entry['base']]}"
        for entry in report["ratios"]
    )
    best, noise = first["throughput"]["best"], report["noise"]
    verdict = "; ".join(f"{r['what']} {r['measured']:.3g}" for r in noise["reasons"]) or "quiet enough"
    return (
        f"{_table(columns, rows)}\n\n{machine(report['host'])}. "
        f"{first['single-stream']['latency']['n']:,} calls in {report['settings']['rounds']} interleaved rounds, "
        f"which differ by {spread}; {ratios}. The fixed rate is {first['fixed-rate']['rate']:,.0f} rows a second, "
        f"latency from when each was due. All cores: {best['way'].replace('-', ' ')}, batches of {best['batch']}. The "
        f"machine: {verdict}; the same file opened twice {_interval(noise['control'])}."
    )


def _interval(ratio: dict[str, Any]) -> str:
    return f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def harness() -> str:
    """What the benchmark itself adds, and how often it is wrong."""
    report = _load(RESULTS / "harness.json")
    repeats, same, slowed = report["repeats"], report["same"], report["slowed"]
    rows = [
        [target["what"], f"{target['got']:g}", target["target"].replace(">=", "≥").replace("<=", "≤"),
         "yes" if target["met"] else "no"]
        for target in report["targets"]
    ]  # fmt: skip
    widths = sorted(entry["high"] - entry["low"] for entry in same)
    ratios = sorted(entry["ratio"] for entry in slowed)
    return (
        _table([f"{repeats} repeats", "found", "target", "met"], rows)
        + f"\n\nIntervals cover 99 %; those of the same file are {widths[repeats // 2]:.3f} wide (median). The "
        f"predictor that waits 5 % of its own time took {ratios[0]:.3f} to {ratios[-1]:.3f} times as long.\n\n"
        f"{machine(report['host'])}."
    )


def overhead() -> str:
    """What the toolkit's own Python costs."""
    report = _load(RESULTS / "overhead.json")
    one, start, imports = report["one_image"], report["start"], report["import"]
    rows = [[name, *(f"{v:.1f}" for v in figures.values())] for name, figures in one["ways"].items()]
    medians = start["median_ms"]
    return (
        _table(["one raw image to its label, one thread", "p50, us", "p90", "p99"], rows)
        + f"\n\n- `classify` takes {one['classify_to_usual_way']:.2f} of the usual way (float32 file, "
        "division by 255 in numpy, `session.run`, argmax) "
        f"and {one['classify_to_bare_run']:.2f} of a bare `session.run` of the same int8 file.\n"
        f"- `toolkit --version` starts in {medians['toolkit --version']:.0f} ms and `--help` in "
        f'{medians["toolkit --help"]:.0f} ms; `python -c "import typer"` takes {medians["import typer"]:.0f} ms.\n'
        f"- `import toolkit.predictor` adds {imports['predictor_median_ms']:.1f} ms to importing numpy and onnxruntime."
        f"\n\n{machine(report['host'])}."
    )


def setup() -> str:
    """The two commands in a fresh clone."""
    report = _load(RESULTS / "fresh_clone.json")
    commits = report["commits"]
    rows = [[name, f"{seconds:.0f} s", f"`{commits[name][:7]}`"] for name, seconds in report["seconds"].items()]
    return f"{_table(['in a fresh clone, nothing cached', 'takes', 'commit'], rows)}\n\n{machine(report['host'])}."


def portability() -> str:
    """The reference model's int8 files, with portable and with plain scales, on every emulated CPU."""
    report = _load(RESULTS / "portability.json")
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
        _table(["labels / logits that differ", *(f"{name} scales" for name in shown)], rows)
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
    report = _load(RESULTS / "runtimes.json")
    rows = []
    for key, how in (("pythons", "folder"), ("runtimes", "wheel"), ("cpus", "wheel")):
        for entry in report[key]:
            versions = entry.get("versions") or {}
            shown = [str(versions.get(name, "")) for name in ("machine", "python", "numpy", "onnxruntime")]
            emulated = f", {entry['emulator']}" if "emulator" in entry else ""
            rows.append([f"{entry['what']}{emulated} ({how})", *shown, _verdict(entry)])
    bundle = report["bundle"]
    return (
        _table(["where", "machine", "Python", "numpy", "onnxruntime", "self-test"], rows)
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


def quantization() -> str:
    """What each int8 form loses over several trained models, and the reference file's size and ratios of latency."""
    report = _load(RESULTS / "quantization.json")
    rows = [
        [
            name,
            f"{entry['accuracy_mean']:.2f} ± {entry['accuracy_std']:.2f} %",
            f"{-entry['lost_mean'] + 0:+.2f} ± {entry['lost_std']:.2f}",
            f"{entry['agreement_mean']:.2f} %",
            f"{entry['agreement_min']:.2f} %",
        ]
        for name, entry in report["summary"].items()
    ]
    columns = [f"{len(report['models'])} models", "test accuracy", "points to Keras", "labels as Keras", "least"]
    size, times = report["size"], report["latency"]
    before = "" if report["format"] > 1 else " All of this was measured before bias correction came in."
    ratios = "; ".join(
        f"{name} {entry['ratio']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
        for name, entry in times["ratios"].items()
    )
    return (
        _table(columns, rows) + f"\n\nMean and standard deviation over {len(report['models'])} seeds. "
        f"The int8 file of the reference model takes {size['bytes']:,} bytes, {size['ratio']:.3f} of one byte a weight "
        f"and four a bias. Latency of one image, median ratio and 95 % interval over {times['rounds']} interleaved "
        f"rounds: {ratios}.{before}\n\n{machine(report['host'])}."
    )


def quantization_aware() -> str:
    """What int4 loses with and without a finish of training in rounded weights."""
    report = _load(RESULTS / "quantization_aware.json")
    rows = []
    for recipe, entry in report["summary"].items():
        seeds = [network["seed"] for network in report["networks"] if network["recipe"]["name"] == recipe]
        which = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
        for how, called in (("without", "as trained"), ("with", "`--quantization-aware int4`")):
            figures = [
                f"{found['mean']:.2%}" + (f" ({found['least']:.2%} to {found['most']:.2%})" if len(seeds) > 1 else "")
                for found in entry[how].values()
            ]
            rows.append([f"`{recipe}`, {which}, {called}", *figures])
    columns = [
        "network", "test, float32", "test, int4", "labels of int4 as Keras", "as the network before the finish",
    ]  # fmt: skip
    settings = report["networks"][0]["recipe"]
    return (
        f"{_table(columns, rows)}\n\nMeans, least and most. The finish: {settings['quantization_epochs']} epochs, Adam "
        f"from {settings['quantization_learning_rate']:g}, learning from the network's own answers before it (also of "
        f"`best`, whose teachers were not asked again).\n\n{machine(report['host'])}, `make quantization-aware`."
    )


def architectures() -> str:
    """How many kinds of models pass with default options."""
    report = _load(RESULTS / "architectures.json")
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
    report = _load(RESULTS / "architectures.json")
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
        f"{_table(columns, rows)}\n\n{machine(report['host'])}.\n"
    )


def _judged(output: dict[str, Any]) -> str:
    figure = (
        f"{output['relative_error']:.2%} error" if output["agreement"] is None else f"{output['agreement']:.2%} alike"
    )
    return f"{output['name']} {figure} of {output['rows']:,}"


def _elsewhere(cpus: dict[str, Any]) -> str:
    return "; ".join(f"{c['values_differ']:,} of {c['values']:,}" for c in cpus.values()) or "not run"


def demo() -> str:
    """What the two commands print at their end."""
    report = _load(RESULTS / "fresh_clone.json")
    lines = [line.rstrip() for line in report["demo_ends"].splitlines()]
    shown = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    commit = report["commits"]["make test"][:7]
    return f"```\n{shown}\n```\n\n`make test` ended with `{report['test_ends']}` at commit `{commit}`."


def command_help() -> str:
    """What ``toolkit --help`` prints."""
    program = Path(sys.executable).parent / "toolkit"
    done = subprocess.run([str(program), "--help"], check=True, capture_output=True, text=True, env={"COLUMNS": "100"})
    return f"```\n{done.stdout.rstrip()}\n```"


if __name__ == "__main__":
    sys.exit(main())
