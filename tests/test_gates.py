"""Each gate goes red through the installed command when what it guards is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import breaking
from tests.conftest import toolkit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx


def _failed_gates(artifact: Path, name: str) -> set[str]:
    report = json.loads((artifact / "parity.json").read_text())
    assert report["passed"] is False
    (file,) = [entry for entry in report["files"] if entry["name"] == name]
    return {gate["name"] for gate in file["gates"] if not gate["passed"]}


@pytest.mark.parametrize(
    ("name", "change", "gate"),
    [
        ("model.onnx", breaking.put_nan, "values that are no numbers"),
        ("model.onnx", breaking.perturb_one_weight, "largest difference"),
        ("model.onnx", breaking.swap_two_labels, "labels that differ from Keras"),
        ("model.onnx", breaking.depend_on_batch, "largest difference at batch 1"),
        ("model.onnx", breaking.depend_on_batch, "labels that differ at batch 7"),
        ("model.int8.onnx", breaking.scramble_int8, "label agreement"),
        ("model.int8.onnx", breaking.swap_two_labels, "accuracy lost"),
    ],
)
def test_a_broken_file_fails_its_gate(
    trained: Path, tmp_path: Path, name: str, change: Callable[[onnx.ModelProto], None], gate: str
) -> None:
    broken = breaking.copy_of(trained, tmp_path)
    breaking.edit(broken, name, change)
    finished = toolkit("verify", broken)
    assert finished.code == 1, finished.err
    assert finished.error_line.startswith(f"error: {name}: ")
    assert gate in _failed_gates(broken, name)


def test_a_float32_file_that_fails_names_the_first_layer_that_differs(trained: Path, tmp_path: Path) -> None:
    broken = breaking.copy_of(trained, tmp_path)
    breaking.edit(broken, "model.onnx", breaking.perturb_one_weight)
    finished = toolkit("verify", broken)
    assert finished.code == 1, finished.err
    assert "; first layer that differs: hidden_2 (its output is off by " in finished.error_line
    assert "hidden_1 still agrees)" in finished.error_line
    (float32, _) = json.loads((broken / "parity.json").read_text())["files"]
    assert float32["divergence"]["layer"] == "hidden_2"


def test_the_unbroken_copy_passes(trained: Path, tmp_path: Path) -> None:
    finished = toolkit("verify", breaking.copy_of(trained, tmp_path), "--json")
    assert finished.code == 0, finished.err
    report = json.loads(finished.out)
    assert report["passed"] is True
    assert [file["kind"] for file in report["files"]] == ["float32", "int8"]
    float32, int8 = report["files"]
    assert float32["outputs"][0]["parity"]["flips"] == []
    assert float32["outputs"][0]["parity"]["n"] == int8["outputs"][0]["parity"]["n"] == 10_000
    assert sum(map(sum, int8["outputs"][0]["parity"]["confusion"])) == 10_000
    assert len(int8["outputs"][0]["parity"]["flips"]) == round(10_000 * (1 - int8["outputs"][0]["parity"]["agreement"]))


def test_limits_can_be_tightened_until_they_fail(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    finished = toolkit("verify", artifact, "--max-difference", "1e-12")
    assert finished.code == 1
    assert "largest difference" in finished.error_line


def test_a_failed_export_leaves_the_artifact_untouched(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    before = {path.name: path.read_bytes() for path in artifact.iterdir() if path.is_file()}
    finished = toolkit("export", artifact, "--quantize", "--min-agreement", "1", "--keep-failed")
    assert finished.code == 1
    assert "label agreement" in finished.error_line
    assert "nothing was published" in finished.error_line
    assert {path.name: path.read_bytes() for path in artifact.iterdir() if path.is_file()} == before
    assert _failed_gates(artifact.with_name("broken.failed"), "model.int8.onnx") == {"label agreement"}
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "weird"}, "calls 'model.onnx' 'weird'"),
        ({"kind": "int8"}, "calls 'model.onnx' 'int8'"),
        ({"sha256": None}, "sha256"),
    ],
)
def test_a_manifest_cannot_choose_looser_gates(
    trained: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"]["model.onnx"].update(change)
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    finished = toolkit("verify", artifact)
    assert finished.code == 4
    assert says in finished.error_line


FULL_DISK = """
import resource, signal, sys
from toolkit.__main__ import main
from toolkit.pipeline import verifying
verify_files = verifying.verify_files
def then_the_disk_is_full(*arguments, **options):
    report = verify_files(*arguments, **options)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on the size of files stands in for the full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    return report
verifying.verify_files = then_the_disk_is_full
sys.argv[0] = "toolkit"
main()
"""


def test_a_failed_gate_shows_its_figures_even_if_the_disk_is_full(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    command = [sys.executable, "-c", FULL_DISK, "verify", str(artifact), "--max-difference", "1e-12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3, done.stderr
    assert "FAILED" in done.stdout
    assert "could not write" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_kept_does_not_hide_the_verdict(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    (tmp_path / "broken.failed").mkdir()
    (tmp_path / "broken.failed" / "thesis.txt").write_text("precious")
    finished = toolkit("export", artifact, "--max-difference", "1e-12", "--keep-failed")
    assert finished.code == 1
    assert "largest difference" in finished.error_line
    assert "could not be kept" in finished.error_line
    assert (tmp_path / "broken.failed" / "thesis.txt").read_text() == "precious"


def test_changed_files_are_refused_with_exit_code_4(trained: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "model.int8.onnx", "model.keras", "history.csv"):
        artifact = breaking.copy_of(trained, tmp_path / name)
        data = bytearray((artifact / name).read_bytes())
        data[len(data) // 2] ^= 1
        (artifact / name).write_bytes(data)
        finished = toolkit("verify", artifact)
        assert finished.code == 4
        assert name in finished.error_line
