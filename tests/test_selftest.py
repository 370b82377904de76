"""The self-test on a device: what passes, what fails and with which code, and that no damage gets past it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.bundles import MODEL, changed, make_bundle, selftest, with_golden, with_manifest
from tests.conftest import REFERENCE, toolkit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "device")


def _refused(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the self-test failed: ")
    assert says in line
    assert done.stdout == ""


def test_one_line_says_that_all_is_well(bundle: Path) -> None:
    done = selftest(bundle)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("passed: ")
    assert "32 of 32 labels as Keras; 320 values bit for bit" in line


def test_the_report_is_json(bundle: Path) -> None:
    done = selftest(bundle, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"], report["exit_code"], report["error"]) == (0, "passed", 0, None)
    names = [check["name"] for check in report["checks"]]
    assert names == ["platform", "files", "runtime", "labels", "values", "latency"]
    assert 0 < report["latency_us"]["p50"] <= report["latency_us"]["p90"]
    assert set(report["versions"]) == {"python", "numpy", "onnxruntime", "machine", "libc"}
    assert report["bundle"]["model"] == MODEL


def test_a_failure_is_json_too(bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "README.md").unlink()
    done = selftest(broken, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"], report["exit_code"], done.stderr) == (4, "failed", 4, "")
    assert "README.md" in report["error"]


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--selftest", "--fast"], ["picture.png"]])
def test_other_arguments_are_told_how_to_use_it(bundle: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "predictor.py", *arguments], cwd=bundle, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


def test_without_its_other_half_it_says_so(bundle: Path, tmp_path: Path) -> None:
    shutil.copy(bundle / "predictor.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "predictor.py", "--selftest"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        3,
        "error: selftest.py is not beside predictor.py; copy the bundle as a whole\n",
    )


def test_without_numpy_it_says_what_to_install(bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "predictor.py", "--selftest"], cwd=bundle, capture_output=True, text=True, check=False
    )
    _refused(done, 3, "pip install --require-hashes -r requirements.txt")


def test_it_reads_no_cache_that_it_left(bundle: Path) -> None:
    """Running it makes __pycache__, and it passes again."""
    assert [selftest(bundle).returncode for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(
    ("section", "code", "says"),
    [
        ({"python": "4.0"}, 3, "is older than 4.0"),
        ({"model": "model.onnx"}, 4, "not that of a bundle of one model"),
        ({"format": 9}, 4, "of bundle format 9"),
    ],
)
def test_what_this_device_lacks_is_said(
    bundle: Path, tmp_path: Path, section: dict[str, Any], code: int, says: str
) -> None:
    _refused(selftest(with_manifest(bundle, tmp_path / "b", **section)), code, says)


def test_an_older_runtime_than_the_floor_is_refused(bundle: Path, tmp_path: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][MODEL]["onnxruntime"] = "99.1"
    text = json.dumps(manifest).encode()
    _refused(selftest(changed(bundle, tmp_path / "b", manifest_json=text)), 3, "is older than 99.1")


def test_what_the_pins_need_and_the_device_lacks_matters_only_if_nothing_runs(bundle: Path, tmp_path: Path) -> None:
    features = {"x86_64": ["teleport"], "aarch64": ["teleport"]}
    folder = with_manifest(bundle, tmp_path / "b", cpu_features=features, glibc="99.0")
    assert selftest(folder).returncode == 0
    (tmp_path / "crashing").mkdir()
    (tmp_path / "crashing" / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    done = selftest(folder, PYTHONPATH=str(tmp_path / "crashing"))
    _refused(done, 3, "signal 4")
    assert "the CPU has no teleport" in done.stderr
    assert "is older than 99.0" in done.stderr


def _one_label(golden: dict[str, Any]) -> dict[str, Any]:
    labels = golden["label"].copy()
    labels[5] = (labels[5] + 1) % 10
    return {"label": labels}


def _one_bit(golden: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in golden if name.startswith(f"{MODEL}/"))
    values = golden[name].copy()
    values.view(np.uint32)[3, 4] ^= 1
    return {name: values}


@pytest.mark.parametrize(
    ("change", "says"), [(_one_label, "1 of 32 labels are not Keras'"), (_one_bit, "1 of 320 values of")]
)
def test_one_answer_that_differs_fails(
    bundle: Path, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], says: str
) -> None:
    with np.load(bundle / "golden.npz") as stored:
        golden = {name: stored[name] for name in stored.files}
    _refused(selftest(with_golden(bundle, tmp_path / "b", change(golden))), 1, says)


def test_golden_vectors_of_another_model_are_refused(bundle: Path, tmp_path: Path) -> None:
    facts = json.dumps({"format": 1, "random": False, "scales": {}, "files": {}})
    _refused(selftest(with_golden(bundle, tmp_path / "b", {"facts": np.array(facts)})), 4, f"no answers of {MODEL}")


def test_another_model_under_this_name_fails(bundle: Path, tmp_path: Path) -> None:
    """Hashes and manifest made to fit, as by someone who swaps the model on purpose: its answers give it away."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(bundle / MODEL)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(weights).copy()
    values.reshape(-1)[::7] ^= 64
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    data = model.SerializeToString()
    folder = changed(bundle, tmp_path / "b", model_int8_onnx=data)
    _refused(selftest(folder), 4, "describes another")
    from toolkit.artifact import sha256_of

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][MODEL] |= {"sha256": sha256_of(folder / MODEL), "bytes": len(data)}
    done = selftest(changed(folder, tmp_path / "c", manifest_json=json.dumps(manifest).encode()))
    assert done.returncode == 1, done.stderr


def test_float32_is_held_to_a_tolerance(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "device", "--kind", "float32")
    done = selftest(folder)
    assert done.returncode == 0, done.stderr
    assert "values within 1e-05" in done.stdout
    with np.load(folder / "golden.npz") as stored:
        values = {name: stored[name] for name in stored.files if name.startswith("model.onnx/")}
        facts = json.loads(str(stored["facts"]))
    off = {name: array + np.float32(3e-5) for name, array in values.items()}
    _refused(selftest(with_golden(folder, tmp_path / "off", off)), 1, "3e-05 of its size, limit 1e-05")
    wide = json.dumps(facts | {"scales": dict.fromkeys(facts["scales"], 100.0)})
    assert selftest(with_golden(folder, tmp_path / "wide", {**off, "facts": np.array(wide)})).returncode == 0
    nan = {name: np.full_like(array, np.nan) for name, array in values.items()}
    assert selftest(with_golden(folder, tmp_path / "nan", nan)).returncode == 1


DAMAGE = """
import json, os, runpy, shutil, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # its thread would be missing in a fork, which then hangs at its end
import numpy, onnxruntime  # once, for all the forks
folder, scratch = sys.argv[1:]
names = sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))
random = numpy.random.default_rng(5)
cases = []
for number in range(250):
    name = names[number % len(names)]
    with open(os.path.join(folder, name), "rb") as file:
        data = bytearray(file.read())
    at = int(random.integers(len(data)))
    if number < 200:
        data[at] ^= 1 << int(random.integers(8))
    else:
        del data[at:]
    cases.append((name, bytes(data)))
for number, (name, data) in enumerate(cases):
    place = os.path.join(scratch, str(number))
    os.mkdir(place)
    for other in names:
        if other != name:
            os.link(os.path.join(folder, other), os.path.join(place, other))
    with open(os.path.join(place, name), "wb") as file:
        file.write(data)
    child = os.fork()
    if child == 0:
        os.chdir(place)
        for descriptor, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(kind, os.O_CREAT | os.O_WRONLY), descriptor)
        sys.dont_write_bytecode = True
        sys.path[:0] = [place]
        sys.argv = ["predictor.py", "--selftest"]
        try:
            runpy.run_path("predictor.py", run_name="__main__")
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(99)
    code = os.waitpid(child, 0)[1]
    code = os.waitstatus_to_exitcode(code)
    out, err = (open(os.path.join(place, kind), errors="replace").read() for kind in ("out", "err"))
    print(json.dumps([name, code, out, err]), flush=True)
    shutil.rmtree(place)
"""


def test_no_flipped_bit_and_no_cut_gets_past_it(bundle: Path, tmp_path: Path) -> None:
    """200 bits and 50 cuts over all files, each run in a process of its own.

    A cut or flip in predictor.py or selftest.py may end in Python's own SyntaxError, as it is they that run; from
    outside (`toolkit verify-bundle`, `sha256sum -c`) each of these is found as well.
    """
    clean = tmp_path / "clean"
    shutil.copytree(bundle, clean, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "scratch").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(clean), str(tmp_path / "scratch")],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == 250
    own = 0
    for name, code, out, err in cases:
        assert code > 0, (name, code, err)
        assert out == "", (name, out)
        if name in ("predictor.py", "selftest.py") and "Error" in err and not err.startswith("error: "):
            own += 1
            continue
        assert code == 4, (name, code, err)
        assert err.startswith("error: the self-test failed: ")
        assert len(err.splitlines()) == 1
    assert own < 50
    files = {name for name, *_ in cases}
    assert files == {path.name for path in clean.iterdir()}


@pytest.mark.parametrize("name", ["predictor.py", "selftest.py"])
def test_damaged_code_is_found_from_outside(bundle: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "b"
    shutil.copytree(bundle, folder)
    data = bytearray((folder / name).read_bytes())
    data[100] ^= 1
    (folder / name).write_bytes(data)
    done = toolkit("verify-bundle", folder)
    assert done.code == 4
    assert name in done.error_line


def test_the_reference_has_golden_vectors() -> None:
    assert (REFERENCE / "golden.npz").is_file()
