"""A bundle as a wheel: the bytes, what is in it, and a real installation of it with numpy and onnxruntime alone."""

from __future__ import annotations

import ast
import base64
import csv
import email
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REFERENCE
from tests.emulated import machines_or_skip
from tests.environments import core_environment, pip_install
from toolkit.bundle import wheel
from toolkit.bundle.contents import gather
from toolkit.emulation.starting import run_python
from toolkit.errors import CorruptArtifactError, UsageError
from toolkit.predictor import Predictor, check_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

GOLDEN = Path(__file__).parent / "golden" / "keras.npz"
PACKAGE = "fashion_mnist_model"
ABOUT = f"{PACKAGE}-0.1.0.dist-info"


@pytest.fixture(scope="module")
def contents() -> Mapping[str, bytes]:
    """The files of the reference model's bundle."""
    return gather(REFERENCE).files


def _build(contents: Mapping[str, bytes], **changes: Any) -> tuple[str, bytes]:
    arguments = {
        "name": "fashion-mnist",
        "version": "0.1.0",
        "floor": "1.11",
        "summary": "Tells clothes apart",
        **changes,
    }
    return wheel.build(contents, **arguments)


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(contents: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a file."""
    name, data = _build(contents)
    path = tmp_path_factory.mktemp("wheel") / name
    path.write_bytes(data)
    return path


# the file


def test_the_same_bundle_gives_the_same_bytes(contents: Mapping[str, bytes], built: Path) -> None:
    assert built.name == f"{PACKAGE}-0.1.0-py3-none-any.whl"
    assert _build(dict(reversed(list(contents.items()))))[1] == built.read_bytes()
    code = "import sys, pickle; from toolkit.bundle import wheel; a = pickle.load(sys.stdin.buffer); "
    code += "sys.stdout.buffer.write(wheel.build(*a)[1])"
    arguments = (dict(contents), "fashion-mnist", "0.1.0", "1.11", "Tells clothes apart")
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(arguments),
        capture_output=True,
        env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"},
        check=True,
    )
    assert done.stdout == built.read_bytes()
    with zipfile.ZipFile(built) as archive:
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644
            assert info.compress_type == zipfile.ZIP_STORED


def test_record_has_every_file_with_its_hash_and_size(built: Path) -> None:
    members = _members(built.read_bytes())
    rows = list(csv.reader(io.StringIO(members[f"{ABOUT}/RECORD"].decode())))
    assert [row[0] for row in rows] == list(members)
    for name, digest, size in rows[:-1]:
        value = base64.urlsafe_b64encode(hashlib.sha256(members[name]).digest()).decode().rstrip("=")
        assert (digest, size) == (f"sha256={value}", str(len(members[name])))
    assert rows[-1] == [f"{ABOUT}/RECORD", "", ""]


def test_it_is_the_bundle_with_a_package_around_it(contents: Mapping[str, bytes], built: Path, tmp_path: Path) -> None:
    members = _members(built.read_bytes())
    inside = {name.partition("/")[2]: data for name, data in members.items() if name.startswith(f"{PACKAGE}/")}
    assert set(inside) == {*contents, "__init__.py", "__main__.py", "py.typed"}
    assert [name for name in contents if inside[name] != contents[name]] == ["SHA256SUMS", "selftest.py"]
    changed = zip(inside["selftest.py"].splitlines(), contents["selftest.py"].splitlines(), strict=True)
    (lines,) = [(new.strip(), old.strip()) for new, old in changed if new != old]
    assert lines == (f"from {PACKAGE} import predictor as device".encode(), b"import predictor as device")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path)
    sums = check_bundle(str(tmp_path / PACKAGE))
    assert set(sums) == set(inside) - {"SHA256SUMS"}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / PACKAGE, check=True)


def test_metadata(contents: Mapping[str, bytes], built: Path) -> None:
    members = _members(built.read_bytes())
    found = email.message_from_bytes(members[f"{ABOUT}/METADATA"])
    assert (found["Name"], found["Version"], found["Summary"]) == (
        "fashion-mnist-model",
        "0.1.0",
        "Tells clothes apart",
    )
    assert found["Requires-Python"] == ">=3.9"
    assert found.get_all("Requires-Dist") == ["numpy", "onnxruntime>=1.11"]
    assert found.get_payload() == contents["README.md"].decode()
    assert f"Tag: {wheel.TAG}\n" in members[f"{ABOUT}/WHEEL"].decode()
    data = _build(contents, floor=None, summary="two\nlines", version="1!2.0rc1.post2+local.1")[1]
    (name,) = [name for name in _members(data) if name.endswith("METADATA")]
    found = email.message_from_bytes(_members(data)[name])
    assert found.get_all("Requires-Dist") == ["numpy", "onnxruntime"]
    assert (found["Summary"], found["Version"]) == ("two lines", "1!2.0rc1.post2+local.1")


def test_a_signature_stays_with_the_folder_that_it_is_of(contents: Mapping[str, bytes], built: Path) -> None:
    assert _build({**contents, "model.sig": b"{}"})[1] == built.read_bytes()


@pytest.mark.parametrize("line", ["import predictor as device", "from toolkit import predictor as device"])
def test_selftest_takes_the_predictor_of_its_package(contents: Mapping[str, bytes], line: str) -> None:
    source = f"def main():\n    {line}\n    return device\n"
    found = _members(_build({**contents, "selftest.py": source.encode()})[1])[f"{PACKAGE}/selftest.py"]
    assert found.decode() == f"def main():\n    from {PACKAGE} import predictor as device\n    return device\n"
    for wrong in ("def main(): ...\n", source + source, source.replace("as device", "as device  # why")):
        with pytest.raises(ValueError, match="expected one line that can be replaced"):
            _build({**contents, "selftest.py": wrong.encode()})


def test_generated_code_is_plain_python_3_9(built: Path, tmp_path: Path) -> None:
    for name, data in _members(built.read_bytes()).items():
        if name.endswith(".py"):
            ast.parse(data, feature_version=(3, 9))
            assert b"PACKAGE" not in data
        if name.endswith(("__init__.py", "__main__.py")):
            assert b"toolkit" not in data
            (tmp_path / Path(name).name).write_bytes(data)
    rules = ["--isolated", "--select", "E,F,W,B,UP,SIM,RET,RUF", "--target-version", "py39", "--line-length", "120"]
    ruff = Path(sys.executable).parent / "ruff"
    done = subprocess.run([str(ruff), "check", *rules, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "names", [None, ["no", "yes"], ['"""', "it's", "back\\slash", "Größe", "\U0001f455", "new\nline"]]
)
def test_class_names_are_written_as_they_are(contents: Mapping[str, bytes], names: list[str] | None) -> None:
    manifest = json.dumps({**json.loads(contents["manifest.json"]), "class_names": names}).encode()
    source = _members(_build({**contents, "manifest.json": manifest})[1])[f"{PACKAGE}/__init__.py"]
    space: dict[str, Any] = {"__name__": "some"}
    exec(compile(source, "init", "exec"), space)  # noqa: S102 - it is what Python does with it
    assert space["CLASS_NAMES"] == (None if names is None else tuple(names))


# names


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("fashion-mnist", "fashion_mnist_model"),
        ("Fashion.MNIST", "fashion_mnist_model"),
        ("a__b--c", "a_b_c_model"),
        ("class", "class_model"),
        ("x2", "x2_model"),
        ("model-", "model_model"),
    ],
)
def test_packages_are_named_after_the_artifact(name: str, package: str) -> None:
    assert wheel.package_name(name) == package


@pytest.mark.parametrize("name", ["3d", "größe", "my model", "-x", "a/b", "", "x\n"])
def test_a_name_that_no_package_can_have(contents: Mapping[str, bytes], name: str) -> None:
    with pytest.raises(UsageError, match=r"which Python cannot import; rename it: letters a to z, digits and hyphens"):
        _build(contents, name=name)


@pytest.mark.parametrize("version", ["", "v1", "1.0-1", "1.0.0-beta", "01.2", "1.0\n", "latest"])
def test_a_version_that_is_none(contents: Mapping[str, bytes], version: str) -> None:
    with pytest.raises(UsageError, match=r"expected one such as 0\.1\.0"):
        _build(contents, version=version)


# installed


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment: the core wheels, the wheel, nothing else."""
    found = core_environment(tmp_path_factory.mktemp("device") / "environment")
    pip_install(found, "--no-index", str(built))  # with its requirements, which must be met by now
    subprocess.run([str(found), "-m", "pip", "check"], check=True, timeout=120)
    return found


def _run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _says(python: Path, script: str, cwd: Path) -> Any:
    """What a script prints, from JSON; `m` is the package, `images` are Keras' golden rows."""
    start = f"import json, os, sys, numpy as np, {PACKAGE} as m\nimages = np.load({str(GOLDEN)!r})['images']\n"
    done = _run(python, "-c", start + script, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_it_predicts_like_the_artifact(python: Path, tmp_path: Path) -> None:
    import numpy as np

    found = _says(
        python,
        """
assert m.shared_predictor() is m.shared_predictor()
one, batch = m.predict(images[0]), m.predict_batch(images)
blocks = [len(part) for part in m.predict_batch(iter([images[:3], images[3:8]]))]
print(json.dumps([one.class_name, one.confidence, batch.labels.tolist(), [m.classify(i) for i in images], blocks,
                  m.CLASS_NAMES, list(m.shared_predictor().class_names), m.__version__]))
""",
        tmp_path,
    )
    images = np.load(GOLDEN)["images"]
    expected = Predictor(REFERENCE)
    one = expected.predict(images[0])
    labels = expected.predict_batch(images).labels.tolist()
    names = list(expected.class_names or ())
    assert found == [one.class_name, pytest.approx(one.confidence), labels, labels, [3, 5], names, names, "0.1.0"]


def test_nothing_else_is_imported_and_at_first_nothing_at_all(python: Path, tmp_path: Path) -> None:
    first, then = _says(
        python,
        """
first = set(sys.modules)
m.predict(images[0])
def outside(names):  # top-level names of what stands in site-packages
    files = {n.partition('.')[0]: getattr(sys.modules[n], '__file__', None) or '' for n in names}
    return sorted(n for n, f in files.items() if 'site-packages' in f and n != '_distutils_hack')  # Python 3.11's venv
print(json.dumps([outside(first), outside(sys.modules)]))
""",
        tmp_path,
    )
    assert first == [PACKAGE, "numpy"]  # numpy is the script's own
    assert set(then) == {PACKAGE, "numpy", "onnxruntime"}
    done = _run(python, "-c", f"import sys, {PACKAGE}; print('numpy' in sys.modules)", cwd=tmp_path)
    assert done.stdout == "False\n", done.stderr


def test_eight_threads_at_once_open_it_once(python: Path, tmp_path: Path) -> None:
    opened, labels, shared = _says(
        python,
        f"""
import threading, time
from {PACKAGE} import predictor as device
opened, found, barrier = [], [None] * 8, threading.Barrier(8)
class Counted(device.Predictor):
    def __init__(self, *arguments):
        opened.append(1)
        time.sleep(0.2)
        super().__init__(*arguments)
device.Predictor = Counted
def call(at):
    barrier.wait()
    found[at] = m.classify(images[0]), id(m.shared_predictor())
threads = [threading.Thread(target=call, args=(at,)) for at in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps([len(opened), len({{label for label, _ in found}}), len({{which for _, which in found}})]))
""",
        tmp_path,
    )
    assert (opened, labels, shared) == (1, 1, 1)


@pytest.mark.parametrize("when", ["before it is opened", "after it", "while another thread opens it"])
def test_after_a_fork(python: Path, tmp_path: Path, when: str) -> None:
    codes = _says(
        python,
        f"""
import signal, warnings
warnings.simplefilter("ignore")  # Python 3.12 on warns of forks of processes with threads
when = {when!r}
if when == "after it":
    m.classify(images[0])
if when == "while another thread opens it":
    m._SHARED.lock.acquire()
child = os.fork()
if not child:
    signal.alarm(30)  # hanging ends by a signal
    os._exit(10 + m.classify(images[0]))
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if when == "while another thread opens it":
    m._SHARED.lock.release()
print(json.dumps([code, 10 + m.classify(images[0])]))
""",
        tmp_path,
    )
    assert codes[0] == codes[1] >= 10


def test_the_self_test_of_the_installation(python: Path, tmp_path: Path) -> None:
    done = _run(python, "-m", PACKAGE, "--selftest", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["verdict"], report["exit_code"], report["bundle"]["model"]) == ("passed", 0, "model.int8.onnx")
    plain = _run(python, "-m", PACKAGE, "--selftest", cwd=tmp_path)
    assert plain.stdout.startswith("passed: ")
    assert _run(python, "-m", PACKAGE, cwd=tmp_path).returncode == 2


def test_a_changed_file_is_found_before_the_first_answer(built: Path, python: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip_install(python, "--no-index", "--no-deps", "--target", str(site), str(built))
    (site / PACKAGE / "requirements.txt").write_text("numpy\n")
    script = f"import sys, numpy as np; sys.path.insert(0, {str(site)!r}); import {PACKAGE} as m\n"
    script += (
        "try: m.classify(np.zeros((28, 28), np.uint8))\nexcept Exception as e: print(type(e).__name__, e.exit_code)"
    )
    done = _run(python, "-c", script, cwd=tmp_path)
    assert done.stdout == f"{CorruptArtifactError.__name__} 4\n", done.stderr
    assert _run(python, "-m", PACKAGE, "--selftest", cwd=site).returncode == 4


def test_without_numpy_the_self_test_says_what_is_missing(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path)
    done = _run(Path(sys.executable).resolve(), "-I", "-S", "-c", _START, str(tmp_path), cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: the self-test failed: numpy: it cannot be imported")
    assert "Traceback" not in done.stderr


_START = f"""
import runpy, sys
sys.path.insert(0, sys.argv.pop())
sys.argv.append("--selftest")
runpy.run_module({PACKAGE!r}, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def site(built: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files and nothing else."""
    found = tmp_path_factory.mktemp("site") / "site"
    pip_install(python, "--no-index", "--no-deps", "--no-compile", "--target", str(found), str(built))
    return found


def test_it_runs_on_a_raspberry_pi_4(site: Path) -> None:
    with machines_or_skip("cortex-a72") as (machine,):
        done = run_python(machine, ["-m", PACKAGE, "--selftest", "--json"], [site])
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["verdict"], report["versions"]["machine"]) == ("passed", "aarch64")


def test_a_cpu_that_is_too_old_is_said_to_be(site: Path) -> None:
    with machines_or_skip("penryn") as (machine,):  # qemu shows it this machine's /proc/cpuinfo, so numpy has to notice
        done = run_python(machine, ["-m", PACKAGE, "--selftest"], [site])
    assert done.returncode == 3, done.stdout + done.stderr
    assert "error: the self-test failed: platform: numpy does not run on this CPU" in done.stderr
    assert "Traceback" not in done.stderr
