"""Files really run on emulated CPUs: the rows, the gates, and what is written where."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import small_graphs
from tests.breaking import copy_of
from tests.conftest import REFERENCE, ROOT, toolkit
from tests.emulated import REQUIRED, machines_or_skip, nothing
from toolkit import debian
from toolkit.artifact import load_manifest
from toolkit.benchmarking.host import describe_host
from toolkit.emulation import root as roots
from toolkit.emulation.cpus import CPUS, choose
from toolkit.emulation.emulator import host_architecture
from toolkit.errors import ModelError, UsageError
from toolkit.other_cpus import OtherCpus, check_files
from toolkit.pipeline import verify_artifact, write_cpu_records
from toolkit.predictor import Predictor
from toolkit.staged_folders import replace_manifest
from toolkit.verification.gates import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist

FOREIGN_CPU = {"amd64": "cortex-a72", "arm64": "haswell"}
FOREIGN = {"amd64": "arm64", "arm64": "amd64"}


# derived copies


def test_the_copy_with_logits_is_the_same_graph_with_the_same_bits() -> None:
    import onnxruntime as ort

    from toolkit.conversion.logits import operators_as_run, with_logits
    from toolkit.data import load

    images = load().test_images[:300]
    for name in ("model.int8.onnx", "model.onnx"):
        data = (REFERENCE / name).read_bytes()
        copy = with_logits(data, name)
        assert operators_as_run(copy.data, name) == operators_as_run(data, name)
        before, after = (ort.InferenceSession(d, providers=["CPUExecutionProvider"]) for d in (data, copy.data))
        (want,) = before.run(None, {"image": images})
        found, logits = after.run(["probabilities", copy.output], {"image": images})
        assert found.tobytes() == want.tobytes()
        assert (logits.argmax(axis=1) == want.argmax(axis=1)).all()
        assert not copy.computed_scales
        assert copy.exact is (name == "model.int8.onnx")
        assert list(copy.inner) == ["probabilities"]
        again = with_logits(copy.data, name)
        assert again.output == copy.output
        assert again.data == copy.data  # a graph that has them is left as it is


# the manifest


def test_no_rows_are_written_into_an_artifact_that_was_replaced(tmp_path: Path) -> None:

    artifact = copy_of(REFERENCE, tmp_path)
    path = artifact / "manifest.json"
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    with pytest.raises(UsageError, match="was replaced by another command"):
        replace_manifest(artifact, before, "{}")
    assert path.read_bytes() == before + b" "


# really run; skipped only where it cannot be prepared, and in CI not even then


@pytest.mark.slow
def test_the_reference_passes_on_other_cpus_and_says_so(tmp_path: Path) -> None:
    with machines_or_skip("haswell", "cortex-a72"):
        pass
    artifact = copy_of(REFERENCE, tmp_path)
    images = ["--cpu-images", "120"]
    finished = toolkit("verify", artifact, "--cpu", "haswell", "--cpu", "cortex-a72", *images, "--json")
    assert finished.code == 0, finished.err
    report = json.loads(finished.out)
    assert report == json.loads((artifact / "parity.json").read_text())
    (int8,) = (file for file in report["files"] if file["kind"] == "int8")
    assert [row["where"]["cpu"] for row in int8["cpus"]] == ["haswell", "cortex-a72"]
    for row in int8["cpus"]:
        assert (row["labels_differ"], row["logits_differ"], row["logits"]) == (0, 0, 2_200)
    assert {"logits that differ on haswell", "labels that differ on cortex-a72"} <= {g["name"] for g in int8["gates"]}
    # a part of the images is no verdict for the manifest
    assert load_manifest(artifact).cpus == load_manifest(REFERENCE).cpus
    Predictor(artifact)


def test_the_committed_manifest_has_a_row_for_every_cpu() -> None:

    manifest = load_manifest(REFERENCE)
    parity = json.loads((REFERENCE / "parity.json").read_text())
    for file in parity["files"]:
        rows = manifest.cpus[file["name"]]
        assert [row.cpu for row in rows] == [cpu.name for cpu in CPUS]
        assert [row["where"]["cpu"] for row in file["cpus"]] == [cpu.name for cpu in CPUS]
        for row in rows:
            assert (row.images, row.labels_differ) == (10_000, 0)
        if file["kind"] == "int8":
            assert [row.logits_differ for row in rows] == [0] * len(CPUS)


@pytest.mark.slow
def test_any_model_is_compared_by_all_its_outputs(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    two, fixed = tmp_path / "two.onnx", tmp_path / "fixed.onnx"
    small_graphs.write(
        two, small_graphs.TWO, outputs={"brightness": ("values", None), "kind": ("classification", (0, 1))}
    )
    small_graphs.write(fixed, small_graphs.FIXED)
    rows = {
        "image": random.normal(size=(30, 4, 3)).astype(np.float32),
        "rows": random.integers(1, 9, (30, 2), np.int32),
    }
    kinds = np.asarray(Predictor(two).predict_batch(rows).outputs["kind"].argmax(axis=1))
    with machines_or_skip("haswell") as machines:
        ((check,),) = check_files([two], rows, {"kind": kinds}, machines, nothing)
        ((filled,),) = check_files(
            [fixed], {"x": random.normal(size=(30, 6)).astype(np.float32)}, {}, machines, nothing
        )
    assert (check.images, check.alone, check.labels_differ, check.exact) == (30, 30, 0, False)
    assert check.logits == 2 * 30 * (1 + 3)  # brightness as it is, kind before its softmax; in batches and alone
    assert check.probabilities_max_abs < 1e-5
    assert (filled.images, filled.logits, filled.labels_differ) == (30, 30 * 3, 0)
    with machines_or_skip("haswell") as machines, pytest.raises(ModelError, match="takes an input 'rows'"):
        check_files([two], {"image": rows["image"]}, {}, machines, nothing)


def test_the_plain_file_is_not_published(tmp_path: Path) -> None:
    """On a machine with VNNI it answers otherwise than a Haswell; on one without, otherwise than an ARM core.

    Per channel, where every scale is as fine as it can be, most images show it; per tensor it takes thousands
    (benchmarks/portability.py).
    """
    with machines_or_skip("haswell", "cortex-a72"):
        pass
    cpus = ["--cpu", "haswell", "--cpu", "cortex-a72", "--cpu-images", "50"]
    target = tmp_path / "plain"
    finished = toolkit(
        "export", REFERENCE, "--quantize", "--per-channel", "--no-portable", *cpus, "--output", target, "--keep-failed"
    )
    assert finished.code == 1, finished.err
    assert "nothing was published" in finished.error_line
    assert not target.exists()
    report = json.loads((tmp_path / "plain.failed" / "parity.json").read_text())
    (int8,) = (file for file in report["files"] if file["kind"] == "int8")
    failed = {gate["name"] for gate in int8["gates"] if not gate["passed"]}

    vnni = {"avx512_vnni", "avx_vnni"} & set(describe_host().cpu_features or ())
    assert ("logits that differ on haswell" if vnni else "logits that differ on cortex-a72") in failed
    if vnni:
        assert not {name for name in failed if "cortex-a72" in name}
    rows = json.loads((tmp_path / "plain.failed" / "manifest.json").read_text())["cpus"]["model.int8.onnx"]
    assert [row["cpu"] for row in rows] == ["haswell", "cortex-a72"]


@pytest.mark.slow
def test_a_verdict_that_holds_goes_into_the_manifest(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    """The rows of the other CPUs stay: their files are the same."""
    with machines_or_skip("nehalem"):
        pass
    artifact = copy_of(REFERENCE, tmp_path)
    few = dataclasses.replace(
        fashion_mnist, test_images=fashion_mnist.test_images[:300], test_labels=fashion_mnist.test_labels[:300]
    )
    report = verify_artifact(artifact, None, lambda: few, Limits(), nothing, nothing, OtherCpus(choose(["nehalem"])))
    assert report.passed
    write_cpu_records(artifact, report)
    cpus = load_manifest(artifact).cpus
    assert sorted(cpus) == ["model.int8.onnx", "model.onnx"]
    for rows in cpus.values():
        assert [(row.cpu, row.images) for row in rows] == [
            (cpu.name, 300 if cpu.name == "nehalem" else 10_000) for cpu in CPUS
        ]
    assert cpus["model.int8.onnx"][0].logits_differ == 0
    Predictor(artifact)
    assert toolkit("verify", artifact).code == 0
    assert load_manifest(artifact).cpus == cpus  # the files are the same, so is what is known of them


@pytest.mark.parametrize(
    ("options", "exact"),
    [
        (["--quantize", "--output", "logits", "--per-channel"], True),
        pytest.param(["--quantize", "--keep-float", "hidden_2"], False, marks=pytest.mark.slow),
        pytest.param(["--quantize=int4"], False, marks=pytest.mark.slow),
    ],
)
def test_only_what_sums_in_integers_promises_its_bits(tmp_path: Path, options: list[str], exact: bool) -> None:
    with machines_or_skip("haswell"):
        pass
    target = tmp_path / "out"
    finished = toolkit("export", REFERENCE, *options, "--cpu", "haswell", "--cpu-images", 50, "-o", target)
    assert finished.code == 0, finished.err
    report = json.loads((target / "parity.json").read_text())
    (quantized,) = (file for file in report["files"] if file["kind"] != "float32")
    (row,) = quantized["cpus"]
    assert row["exact"] is exact
    assert row["labels_differ"] == 0
    assert ("logits that differ on haswell" in {gate["name"] for gate in quantized["gates"]}) is exact
    assert not exact or row["logits_differ"] == 0


@pytest.mark.slow
def test_a_cpu_that_is_too_old_for_the_wheels_is_one_line(tmp_path: Path) -> None:
    if host_architecture() != "amd64":
        pytest.skip("x86 CPUs on another host take a root that was not tried")
    with machines_or_skip("conroe", "penryn"):
        pass
    for name, says in (("conroe", "illegal instruction at numpy"), ("penryn", "NumPy was built with baseline")):
        report = tmp_path / "report.json"
        finished = toolkit("verify", REFERENCE, "--cpu", name, "--cpu-images", "1", "--output", report)
        assert finished.code == 3
        assert finished.error_line.startswith(f"error: {name} (qemu ")
        assert says in finished.error_line
        assert not report.exists()


@pytest.mark.slow
def test_an_interrupted_preparation_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed while it unpacks: no root is there, and the next try fetches no package again."""
    with machines_or_skip(FOREIGN_CPU[host_architecture()]):
        pass
    if not REQUIRED and not _can_fetch(tmp_path / "probe"):
        pytest.skip("no network to fetch packages")
    cpu = FOREIGN_CPU[host_architecture()]
    script = (
        "from toolkit.emulation.cpus import choose\nfrom toolkit.emulation.run import prepared\n"
        "say = lambda *a: print(*a, flush=True)\n"
        f"with prepared(choose(['{cpu}']), say, say): print('ready')\n"
    )
    env = {**os.environ, "TOOLKIT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert any("unpacking" in line for line in first.stdout)
        first.kill()
    assert first.returncode == -signal.SIGKILL
    place = tmp_path / "cache" / "emulation"
    assert not roots.is_ready(FOREIGN[host_architecture()], place)
    again = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert "fetching 0.0 MB: 0 Debian packages" in again.stdout
    assert again.stdout.endswith("ready\n")
    assert roots.is_ready(FOREIGN[host_architecture()], place)
    assert not (place / "downloads" / FOREIGN[host_architecture()]).exists()
    third = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert third.stdout == "ready\n"  # nothing is fetched twice


def _can_fetch(folder: Path) -> bool:

    folder.mkdir()
    config = debian.foreign_config(folder, FOREIGN[host_architecture()])
    return debian.run(["apt-get", "-c", str(config), "update"], folder, time.monotonic() + 120) is None
