"""What emulation rests on: names, boards, stamps, half folders, locks, and one line for everything that is missing."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import small_graphs
from tests.conftest import REFERENCE, toolkit
from toolkit.emulation import root as roots
from toolkit.emulation import store
from toolkit.emulation.board import make_board
from toolkit.emulation.cpus import CPUS, TOO_OLD, choose
from toolkit.emulation.emulator import host_architecture
from toolkit.emulation.run import Task, run_all, this_machine
from toolkit.emulation.starting import run_python
from toolkit.errors import CpuError, StorageError
from toolkit.predictor import Predictor
from toolkit.verification.cpus import CpuAnswers, CpuCheck, Emulated, compare_cpu, judge_cpu
from toolkit.verification.gates import Limits

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN_CPU = {"amd64": "cortex-a72", "arm64": "haswell"}
FOREIGN = {"amd64": "arm64", "arm64": "amd64"}


def _nothing(*_: object) -> None:
    pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the toolkit's."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# names


def test_names_choose_cpus() -> None:
    assert choose(["all"]) == CPUS
    assert [cpu.name for cpu in choose(["cortex-a76", "haswell", "haswell"])] == ["haswell", "cortex-a76"]
    assert [cpu.name for cpu in choose(["oldest"])] == ["nehalem", "cortex-a53"]
    assert choose([]) == ()
    assert not set(TOO_OLD) & set(choose(["all", "oldest"]))


@pytest.mark.parametrize("command", ["verify", "export", "run"])
def test_a_cpu_that_does_not_exist_is_refused_before_any_work(command: str) -> None:
    finished = toolkit(command, "--cpu", "pentium")
    assert finished.code == 2
    assert finished.error_line == (
        "error: --cpu is 'pentium', expected one of nehalem, haswell, cortex-a53, cortex-a72, cortex-a76, armv8.6, "
        "oldest or all"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--cpu-images", "5"], "does nothing without --cpu"), (["--cpu", "haswell", "--cpu-images", "0"], "1 or more")],
)
def test_a_number_of_images_that_makes_no_sense(arguments: list[str], says: str) -> None:
    finished = toolkit("verify", REFERENCE, *arguments)
    assert finished.code == 2
    assert says in finished.error_line


# boards


def test_a_board_is_what_linux_on_it_shows(tmp_path: Path) -> None:
    (system := tmp_path / "system").mkdir()
    (system / "usr").mkdir()
    for cpu in CPUS:
        (board := tmp_path / cpu.name).mkdir()
        make_board(cpu, board, system)
        assert (board / "usr").resolve() == system / "usr"
        assert (board / "proc" / "cpuinfo").exists() == (cpu.architecture == "arm64")
    info = (tmp_path / "cortex-a76" / "proc" / "cpuinfo").read_text()
    assert info.count("CPU part\t: 0xd0b") == info.count("processor") == 4
    assert "asimddp" in info
    assert "asimddp" not in (tmp_path / "cortex-a72" / "proc" / "cpuinfo").read_text()


# the store


def test_a_folder_without_its_stamp_is_none(cache: Path) -> None:
    with store.locked(alone=True, note=_nothing) as place:
        for half in (None, "{", "[]"):
            folder = place / "half"
            folder.mkdir(exist_ok=True)
            if half is not None:
                (folder / store.STAMP).write_text(half)
            assert store.written_stamp(folder) is None

        def fill(beside: Path) -> dict[str, Any]:
            assert beside.parent == folder.parent
            (beside / "new").touch()
            return {"format": 1}

        store.build(folder, fill)
        assert {path.name for path in folder.iterdir()} == {"new", store.STAMP}
    assert place == cache / "emulation"


def test_a_failure_leaves_the_earlier_folder_and_nothing_half(cache: Path) -> None:
    place = cache / "emulation"
    store.build(place / "thing", lambda beside: {"version": len(list(beside.iterdir()))})

    def fill(beside: Path) -> dict[str, Any]:
        (beside / "half").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="set TOOLKIT_CACHE to a folder with space"):
        store.build(place / "thing", fill)
    assert [path.name for path in place.iterdir()] == ["thing"]
    assert store.written_stamp(place / "thing") == {"version": 0}


def test_what_a_killed_run_left_is_removed_by_the_next(cache: Path) -> None:
    script = (
        "import os, signal\nfrom toolkit.emulation import store\n"
        "def fill(beside):\n    (beside / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "with store.locked(alone=True, note=print) as place:\n    store.build(place / 'thing', fill)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    place = cache / "emulation"
    assert not (place / "thing").exists()
    assert any(path.name.startswith(".thing.building") for path in place.iterdir())
    with store.locked(alone=True, note=_nothing):  # the dead one's lock is gone
        store.build(place / "thing", lambda _: {})
    assert sorted(path.name for path in place.iterdir()) == [".lock", "thing"]


def test_who_changes_the_store_waits_for_its_readers(cache: Path) -> None:
    script = (
        "from toolkit.emulation import store\n"
        "with store.locked(alone=True, note=lambda text: print(text, flush=True)): print('in', flush=True)\n"
    )
    with store.locked(alone=False, note=_nothing), store.locked(alone=False, note=_nothing):
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert "another toolkit command is using" in child.stdout.readline()
        time.sleep(0.5)
        assert child.poll() is None
    assert child.communicate(timeout=30)[0] == "in\n"
    assert cache.is_dir()


def test_another_recipe_or_another_version_makes_a_root_stale(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = cache / "emulation"
    root = roots.root_of("arm64", place)
    root.python.parent.mkdir(parents=True)
    root.site.mkdir()
    root.python.touch()
    recipe = roots._recipe("arm64")

    def stamps(recipe: str, wheels: dict[str, str], python: str = "3.11") -> None:
        (root.system / store.STAMP).write_text(json.dumps({"recipe": recipe, "python": "3.11"}))
        (root.site / store.STAMP).write_text(json.dumps({"wheels": wheels, "python": python}))

    own = roots.wanted_wheels()
    assert not roots.is_ready("arm64", place)
    stamps(recipe, own)
    assert roots.is_ready("arm64", place)
    stamps(recipe, {**own, "onnxruntime": "1.0"})
    assert not roots.is_ready("arm64", place)
    stamps(recipe, own, python="3.12")
    assert not roots.is_ready("arm64", place)
    stamps("another", own)
    assert not roots.is_ready("arm64", place)
    stamps(recipe, own)
    monkeypatch.setattr(roots, "wanted_wheels", lambda: {**own, "numpy": "99"})
    assert not roots.is_ready("arm64", place)


# what is missing, through the installed command


def _programs(tmp_path: Path, **scripts: str) -> str:
    """A PATH with these programs only; a script's text, or the real one for ""."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, text in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return str(folder)


QEMU = {
    name: f'echo "{name} version 7.2.9"' for name in ("qemu_aarch64_static", "qemu_x86_64_static")
}  # only asked for its version here


def _verify_elsewhere(cache: Path, path: str) -> Any:
    cpu = FOREIGN_CPU[host_architecture()]
    env = {"TOOLKIT_CACHE": str(cache), "PATH": path}
    return toolkit("verify", REFERENCE, "--cpu", cpu, "--data", _data(), env=env)


def _data() -> Path:
    from toolkit.data import load

    folder = load().folder
    assert folder is not None
    return folder


def test_no_qemu_and_no_apt(tmp_path: Path) -> None:
    finished = _verify_elsewhere(tmp_path / "cache", _programs(tmp_path))
    assert finished.code == 3
    assert "7.2 or newer is not on this system, and it cannot be fetched because apt-get is not here" in finished.err
    assert finished.error_line.endswith("install the package qemu-user-static, or run again with a network")


def test_a_qemu_that_is_too_old_is_none(tmp_path: Path) -> None:
    old = dict.fromkeys(QEMU, 'echo "qemu version 6.2.0"')
    finished = _verify_elsewhere(tmp_path / "cache", _programs(tmp_path, **old))
    assert finished.code == 3
    assert "7.2 or newer is not on this system" in finished.error_line


def test_qemu_but_no_apt(tmp_path: Path) -> None:
    finished = _verify_elsewhere(tmp_path / "cache", _programs(tmp_path, **QEMU))
    assert finished.code == 3
    assert "takes Debian's Python for it, and apt-get is not on this system" in finished.error_line


def test_apt_without_a_network(tmp_path: Path) -> None:
    apt = (
        'case "$*" in *update*) echo "W: Failed to fetch https://a.example/x  Could not resolve" >&2;;\n'
        '*) echo "E: Unable to locate package python3" >&2; exit 100;; esac'
    )
    finished = _verify_elsewhere(tmp_path / "cache", _programs(tmp_path, **QEMU, apt_get=apt, dpkg_deb="exit 1"))
    assert finished.code == 3
    assert "Unable to locate package python3; before that, apt-get update: Failed to fetch its server" in finished.err
    assert "a.example" not in finished.error_line
    assert "run again with a network" in finished.error_line


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    apt = 'case "$*" in *update*) ;; *) echo "E: write (28: No space left on device)" >&2; exit 100;; esac'
    finished = _verify_elsewhere(tmp_path / "cache", _programs(tmp_path, **QEMU, apt_get=apt, dpkg_deb="exit 1"))
    assert finished.code == 3
    assert "No space left on device); free some space, or set TOOLKIT_CACHE" in finished.error_line


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    finished = _verify_elsewhere(tmp_path / "cache", _programs(tmp_path, **QEMU))
    assert finished.code == 2
    assert "set TOOLKIT_CACHE" in finished.error_line


# comparison and gates


def _answers(logits: np.ndarray[Any, Any]) -> CpuAnswers:
    values = logits.astype(np.float32)
    labels, probabilities = values.argmax(axis=1), values / np.float32(1000)
    return CpuAnswers(
        labels, {"p": probabilities}, {"z": values}, labels[:2], {"p": probabilities[:2]}, {"z": values[:2]}
    )


WHERE = Emulated("haswell", "amd64", "qemu 7.2", "3.11", "2", "1")


def _check(here: CpuAnswers, there: CpuAnswers, *, exact: bool = True) -> CpuCheck:
    return compare_cpu(WHERE, here, there, here.labels, exact=exact)


def test_equal_answers_pass_and_one_bit_fails() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    check = _check(_answers(logits), _answers(logits))
    assert (check.images, check.alone, check.labels_differ, check.logits_differ, check.logits) == (5, 2, 0, 0, 70)
    assert check.accuracy == 1
    assert all(gate.passed for gate in judge_cpu("int8", check, Limits()))
    other = logits.copy()
    other[4, 3] = np.nextafter(other[4, 3], np.float32(9))
    check = _check(_answers(logits), _answers(other))
    assert (check.labels_differ, check.logits_differ) == (0, 1)
    failed = [gate for gate in judge_cpu("int8", check, Limits()) if not gate.passed]
    assert [(gate.name, gate.found, gate.limit) for gate in failed] == [("logits that differ on haswell", 1, 0)]
    # float32 sums in another order there, and so do dynamically quantized files' scales
    check = _check(_answers(logits), _answers(other), exact=False)
    for kind in ("float32", "int8"):
        assert all(gate.passed for gate in judge_cpu(kind, check, Limits()))


def test_a_label_a_nan_or_a_far_probability_fails() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    for kind, change, gate in (
        ("float32", 100.0, "labels that differ on haswell"),
        ("float32", 0.05, "largest difference on haswell"),
        ("int8", np.nan, "largest difference on haswell"),
    ):
        other = logits.copy()
        other[0, other[0].argmin()] += change
        check = _check(_answers(logits), _answers(other), exact=False)
        assert gate in {g.name for g in judge_cpu(kind, check, Limits()) if not g.passed}, (kind, change)


def test_an_image_counts_once_however_it_was_run() -> None:
    logits = np.eye(10, dtype=np.float32)
    check = _check(_answers(logits), _answers(np.roll(logits, 1, axis=0)))
    assert check.labels_differ == 10
    with pytest.raises(ValueError, match="cannot compare"):
        _check(_answers(logits), _answers(logits[:4]))


def _any(values: np.ndarray[Any, Any], **others: np.ndarray[Any, Any]) -> CpuAnswers:
    """What a model that is no classifier says: two rows of it alone as well."""
    outputs = {"values": values, **others}
    few = {name: array[:2] for name, array in outputs.items()}
    return CpuAnswers(None, outputs, outputs, None, few, few)


def test_outputs_without_labels_are_compared_by_their_tasks() -> None:
    rng = np.random.default_rng(0)
    values, sure = (1000 * rng.normal(size=(5, 3, 2))).astype(np.float32), np.full((5, 2), 0.9, np.float32)
    tasks = {"values": "values", "sure": "multilabel"}
    here = _any(values, sure=sure)

    def failed(there: CpuAnswers, kind: str = "float32", *, exact: bool = False) -> list[str]:
        check = compare_cpu(WHERE, here, there, exact=exact, tasks=tasks)
        assert check.accuracy is None
        return [gate.name for gate in judge_cpu(kind, check, Limits()) if not gate.passed]

    assert failed(here) == failed(here, "int8", exact=True) == []
    assert failed(_any(values * np.float32(1 + 3e-6), sure=sure)) == []  # the last bits, of values of thousands
    assert failed(_any(values * np.float32(1 + 1e-4), sure=sure)) == ["largest difference on haswell"]
    one = values.copy()
    one[4, 2, 1] = np.nextafter(one[4, 2, 1], np.float32(1e9))
    assert failed(_any(one, sure=sure), "int8", exact=True) == ["logits that differ on haswell"]
    no = sure.copy()
    no[3, 1] = 0.4999
    assert failed(_any(values, sure=no)) == ["labels that differ on haswell", "largest difference on haswell"]
    nan = values.copy()
    nan[0] = np.nan
    assert failed(_any(nan, sure=sure)) == ["largest difference on haswell"]
    only = compare_cpu(WHERE, _any(values), _any(values), exact=False, tasks=tasks)
    assert only.labels_differ is None
    assert [gate.name for gate in judge_cpu("float32", only, Limits())] == ["largest difference on haswell"]
    with pytest.raises(ValueError, match="cannot compare answers named"):
        compare_cpu(WHERE, here, _any(values), exact=False, tasks=tasks)
    with pytest.raises(ValueError, match="of which only one has labels"):
        compare_cpu(WHERE, here, _answers(np.eye(5)), exact=False, tasks=tasks)


# tasks


def test_rows_are_shared_out_in_whole_batches() -> None:
    rows = np.zeros((1037, 2))
    task = Task("t", b"", {"x": rows}, "runtime", 100, 4)
    shares = task.shares()
    assert shares[0][0] == 0
    assert shares[-1][1] == 1037
    assert all(last == first for (_, last), (first, _) in itertools.pairwise(shares))
    assert all(first % 100 == 0 for first, _ in shares)
    assert Task("t", b"", {"x": rows[:3]}, "runtime", 100, 4).shares() == [(0, 3)]
    assert Task("t", b"", {"x": rows}, "runtime", 1, limit=7).rows == 7


def test_any_inputs_and_outputs_by_any_name() -> None:
    from onnx import TensorProto, helper

    # "file" is a name that numpy.savez would take for its own argument
    graph = helper.make_graph(
        [helper.make_node("Add", ["file", "b/c"], ["sum"]), helper.make_node("Sub", ["file", "b/c"], ["less"])],
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("file", "b/c")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("sum", "less")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    a, b = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    task = Task("two", model.SerializeToString(), {"file": a, "b/c": b}, "runtime", 2)
    done: list[tuple[int, int]] = []
    (answers,) = run_all([this_machine()], [task], lambda now, total, _: done.append((now, total)), "")
    np.testing.assert_array_equal(answers.tasks["two"]["sum"], a + b)
    np.testing.assert_array_equal(answers.tasks["two"]["less"], a - b)
    assert done[-1] == (5, 5)


def test_a_model_that_does_not_open_is_one_line() -> None:
    task = Task("bad", b"no model", {"x": np.zeros((1, 2), np.float32)}, "runtime", 1)
    with pytest.raises(CpuError, match=r"this machine: .*; install them again"):
        run_all([this_machine()], [task], _nothing, "")


# any Python


def test_python_runs_in_an_empty_folder_with_the_given_imports_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("PYTHONSTARTUP", "elsewhere")
    folder = tmp_path / "with a blank"
    folder.mkdir()
    (folder / "numpy.py").write_text("__version__ = 'ours'")
    script = "import json, os, sys, numpy; print(json.dumps([numpy.__version__, os.listdir(), dict(os.environ)]))"
    done = run_python(this_machine(), ["-c", f"{script}; sys.stderr.write('said'); sys.exit(7)"], [folder])
    version, files, variables = json.loads(done.stdout)
    assert (done.returncode, done.stderr, version, files) == (7, "said", "ours", [])
    assert {"SECRET", "PYTHONSTARTUP", "HOME"}.isdisjoint(variables)
    done = run_python(this_machine(), ["-c", script])
    assert json.loads(done.stdout)[0] == np.__version__
    assert run_python(this_machine(), ["-c", "import os; os.abort()"]).returncode == -signal.SIGABRT


def test_python_that_does_not_end_is_stopped() -> None:
    start = time.monotonic()
    with pytest.raises(CpuError, match="this machine: Python did not end within 1 s"):
        run_python(this_machine(), ["-c", "import time; time.sleep(100)"], timeout=1)
    assert time.monotonic() - start < 30


# the child, on this machine's own CPU


def test_the_child_serves_several_inputs_and_outputs_by_name(tmp_path: Path) -> None:
    path = small_graphs.write(
        tmp_path / "two.onnx",
        small_graphs.TWO,
        outputs={"brightness": ("values", None), "kind": ("classification", (0, 1))},
        class_names=("red", "green", "blue"),
    )
    random = np.random.default_rng(5)
    rows = {
        "image": random.normal(size=(7, 4, 3)).astype(np.float32),
        "rows": random.integers(1, 9, (7, 2), np.int32),
    }
    data = path.read_bytes()
    plain = small_graphs.write(tmp_path / "plain.onnx", small_graphs.AUTOENCODER).read_bytes()
    given = {"x": rows["image"][:, :, 0].copy()}
    tasks = [
        Task("batches", data, rows, "predictor", 3),
        Task("alone", data, rows, "predictor", 1),
        Task("bare", data, rows, "runtime", 7),
        Task("no classes", plain, given, "predictor", 1),
    ]
    (answers,) = run_all([this_machine()], tasks, _nothing, "")
    expected = Predictor(path).predict_batch(rows)
    for key in ("batches", "alone"):
        found = answers.tasks[key]
        assert set(found) == {"labels", "probabilities", "output/kind", "output/brightness"}
        assert found["labels"].tolist() == expected.labels.tolist()
        for name, array in expected.outputs.items():
            np.testing.assert_allclose(found[f"output/{name}"], array, rtol=1e-5)
            np.testing.assert_allclose(answers.tasks["bare"][name], array, rtol=1e-5)
    assert set(answers.tasks["no classes"]) == {"output/again"}
    np.testing.assert_allclose(answers.tasks["no classes"]["output/again"], np.tanh(given["x"]), rtol=1e-5)
