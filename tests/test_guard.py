"""The guard on counted work sees what it is there for: each test breaks one thing and looks at what the command says.

Most of them need no valgrind; the one that does takes ten seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.guard import bounds as of_bounds
from benchmarks.guard import callgrind, counting
from benchmarks.guard.__main__ import BOUNDS
from tests.conftest import REFERENCE, ROOT, Finished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAST = [group for group in counting.GROUPS if group not in {"instructions", "wheel"}]
LAST = "        return int(self._classify(self._run_one(row).scores))"
HEAVY = 60  # turns of a loop that does nothing: about 300 bytecodes


def guard(*arguments: object, env: dict[str, str] | None = None) -> Finished:
    """Run the command, where what cannot be counted is left out."""
    environment = {key: value for key, value in os.environ.items() if key != "TOOLKIT_REQUIRE_GUARD"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.guard", *map(str, arguments)],
        cwd=ROOT,
        env={**environment, **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def verdicts(finished: Finished) -> dict[str, str]:
    """What the table says of each figure that is not well."""
    assert "Traceback" not in finished.err
    lines = [line for line in finished.out.splitlines() if line.endswith(("EXCEEDED", "TIGHTEN", "not judged"))]
    return {line.split("  ")[0]: line.split("  ")[-1] for line in lines}


@pytest.fixture
def code(tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the device side's files in which text is replaced."""

    def changed(*replaced: tuple[str, str]) -> Path:
        folder = tmp_path / "code"
        shutil.copytree(ROOT / "toolkit", folder / "toolkit", ignore=lambda _, names: {*names} - FILES)
        path = folder / "toolkit" / "predictor.py"
        text = path.read_text(encoding="utf-8")
        for old, new in replaced:
            assert text.count(old) == 1
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        return folder

    return changed


FILES = {"__init__.py", "predictor.py", "selftest.py"}


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed bounds, with what this Python takes for a call in place of what CI's does."""
    bounds, here = of_bounds.load(BOUNDS, counting.GROUPS), counting.environment()
    counted = counting.GROUPS["calls"](counting.Subject(ROOT, REFERENCE)).figures
    text = of_bounds.with_environment(bounds.text, here)
    path = tmp_path_factory.mktemp("guard") / "bounds.toml"
    path.write_text(of_bounds.renewed(text, "calls", bounds.groups["calls"], counted), encoding="utf-8")
    return path


def test_the_project_is_within_its_bounds() -> None:
    done = guard("--only", ",".join(FAST))
    assert done.code == 0, done.out + done.err
    assert set(verdicts(done).values()) <= {"not judged"}
    for name in FAST:
        assert f"\n{name}: " in done.out


def test_needless_work_in_each_call_is_seen(code: Callable[..., Path], mine: Path) -> None:
    folder = code((LAST, f"        for _ in range({HEAVY}):\n            pass\n{LAST}"))
    done = guard("--only", "calls", "--code", folder, "--bounds", mine)
    assert done.code == 1
    assert verdicts(done) == {"calls: classify, bytecodes": "EXCEEDED"}


def test_a_needless_copy_in_each_call_is_seen(code: Callable[..., Path], mine: Path) -> None:
    folder = code(("            bound.row[...] = row\n", "            bound.row[...] = row.copy()\n"))
    done = guard("--only", "calls", "--code", folder, "--bounds", mine)
    assert done.code == 1
    figures = ("bytecodes", "bytes at once")
    expected = {f"calls: {way}, {figure}": "EXCEEDED" for way in ("classify", "predict") for figure in figures}
    assert verdicts(done) == expected


def test_an_object_that_stays_is_seen(code: Callable[..., Path]) -> None:
    folder = code(
        (LAST, f"        _KEPT.append(object())\n{LAST}"), ("_EXITING = False\n", "_EXITING, _KEPT = False, []\n")
    )
    done = guard("--only", "stays", "--code", folder)
    assert done.code == 1
    assert verdicts(done) == {"stays: classify, objects": "EXCEEDED", "stays: classify, bytes": "EXCEEDED"}


def test_one_more_import_is_seen_and_named(code: Callable[..., Path]) -> None:
    folder = code(("import atexit\n", "import atexit\nimport tomllib\n"))
    done = guard("--only", "start", "--code", folder)
    assert done.code == 1
    assert verdicts(done) == {"start: modules": "EXCEEDED"}
    assert "tomllib._parser" in done.err


def test_more_nodes_are_seen_in_the_file_and_as_run(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    model = onnx.load(REFERENCE / "model.int8.onnx")
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    between = [helper.make_node("Sin", [softmax.input[0]], ["one"]), helper.make_node("Asin", ["one"], ["two"])]
    softmax.input[0] = "two"
    for node in between:
        model.graph.node.insert(len(model.graph.node) - 1, node)
    onnx.save(model, tmp_path / "model.int8.onnx")
    done = guard("--only", "graph", "--artifact", tmp_path)
    assert done.code == 1
    assert verdicts(done) == {"graph: nodes in the file": "EXCEEDED", "graph: nodes as run": "EXCEEDED"}
    assert "Asin, QGemm, QGemm, QGemm, Reshape, Sin, Softmax" in done.err


def test_a_file_that_grew_is_seen(code: Callable[..., Path]) -> None:
    folder = code(('"""The device runtime', f'"""{"A word. " * 1300}The device runtime'))
    done = guard("--only", "bytes", "--code", folder)
    assert done.code == 1
    assert verdicts(done) == {"bytes: predictor.py": "EXCEEDED"}
    assert "make guard-update" in done.err


def test_a_loose_bound_is_seen_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "bounds.toml"
    found = of_bounds.load(BOUNDS, counting.GROUPS).groups["graph"].figures["nodes as run"]
    name = '[graph.figures."nodes as run"]\n'
    old = f"{name}measured = {found.measured}\nbound = {found.bound}\n"
    text = BOUNDS.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, f"{name}measured = 6\nbound = {found.bound * 2}\n"), encoding="utf-8")
    done = guard("--only", "graph", "--bounds", path)
    assert (done.code, verdicts(done)) == (1, {"graph: nodes as run": "TIGHTEN"})
    assert guard("--only", "graph", "--bounds", path, "--update").code == 0
    assert path.read_text(encoding="utf-8") == text
    done = guard("--only", "graph", "--bounds", path, "--update")
    assert "no bound has changed" in done.out


def test_bounds_of_another_machine_are_shown_and_left_alone(tmp_path: Path) -> None:
    here = {**counting.environment(), "python": "3.99"}
    text = of_bounds.with_environment(BOUNDS.read_text(encoding="utf-8"), here).replace("= 128", "= 1")
    path = tmp_path / "bounds.toml"
    path.write_text(text, encoding="utf-8")
    done = guard("--only", "calls", "--bounds", path)
    assert done.code == 0
    assert set(verdicts(done).values()) == {"not judged"}
    assert "calls: shown but not judged: python 3.1" in done.out
    assert "0 of 4 figures judged" in done.out
    assert "left as they are" in guard("--only", "calls", "--bounds", path, "--update").out
    assert path.read_text(encoding="utf-8") == text


def test_callgrind_sees_needless_work_imports_and_a_slower_opening(code: Callable[..., Path]) -> None:
    """The figures that are judged only where the bounds were measured; elsewhere the command must say so."""
    folder = code(
        (LAST, f"        for _ in range({HEAVY}):\n            pass\n{LAST}"),
        ("import atexit\n", "import atexit\nimport tomllib\n"),
        (
            "        return data\n\n\ndef read_checked",
            "        _sha256(data)\n        return data\n\n\ndef read_checked",
        ),
    )
    done = guard("--only", "instructions", "--code", folder)
    differ = of_bounds.load(BOUNDS, counting.GROUPS).differences("instructions", counting.environment())
    if callgrind.why_not() or differ:
        assert done.code == 0, done.err
        assert "not counted" in done.out or "not judged" in done.out
        return
    classify = [f"classify, {part}" for part in ("all", "outside onnxruntime", "Python and numpy")]
    assert verdicts(done) == {f"instructions: {name}": "EXCEEDED" for name in (*classify, "import", "open")}
    assert done.code == 1


def test_without_valgrind_the_rest_is_judged_unless_it_is_asked_for(tmp_path: Path) -> None:
    without = {"PATH": str(tmp_path)}
    done = guard("--only", "instructions,start", env=without)
    assert done.code == 0, done.err
    assert "instructions: not counted: " in done.out
    done = guard("--only", "instructions,start", env={**without, "TOOLKIT_REQUIRE_GUARD": "1"})
    assert done.code == 3
    assert done.error_line.startswith("error: instructions: ")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "format 2, expected 1"),
        ("format = 1", "format 1", "Expected"),
        ("[graph]", "[graphs]", "no 'same'"),
        ('same = ["python", "numpy"]', 'same = ["colour"]', "unknown in 'same' of calls: colour"),
        ("bound = 18\n", "bound = 18.5\n", "expected whole numbers"),
        ("margin = 0.04", "margin = 0.5", "expected 0 to 0.05"),
        ('.figures."nodes as run"]', '.figures."nodes"]', "other figures than were counted: nodes, nodes as run"),
    ],
)
def test_a_bad_file_of_bounds_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = BOUNDS.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "bounds.toml").write_text(text.replace(old, new), encoding="utf-8")
    done = guard("--only", "graph", "--bounds", tmp_path / "bounds.toml")
    assert done.code == 2
    assert said in done.error_line


def test_what_cannot_be_counted_is_one_line(code: Callable[..., Path], tmp_path: Path) -> None:
    folder = code((LAST, f"        raise RuntimeError('broken')\n{LAST}"))
    done = guard("--only", "start", "--code", folder)
    assert (done.code, "broken" in done.error_line) == (1, True)
    done = guard("--only", "start", "--code", tmp_path / "nowhere")
    assert (done.code, "nowhere" in done.error_line) == (3, True)
    done = guard("--only", "nothing")
    assert (done.code, "no such group: nothing" in done.error_line) == (2, True)
    done = guard("--only", "start", "--bounds", tmp_path / "none.toml")
    assert (done.code, "does not exist" in done.error_line) == (3, True)


# What callgrind 3.19 writes, shortened: one function of libpython calls malloc and onnxruntime, which calls malloc.
WRITTEN = """\
# callgrind format
desc: Trigger: Client Request: classify 30
positions: line
events: Ir
summary: 160

ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ???
fn=(1) call
10 20
+3 5
cob=(2) /usr/lib/libc.so.6
cfn=(2) malloc
calls=3 0
* 30
cob=(3) /site-packages/onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so
cfn=(3) run
calls=1 0
-1 105

ob=(3)
fn=(3)
0 65
cob=(2)
cfn=(4) memalign@@GLIBC_2.2.5
calls=4 0
0 40

ob=(2)
fn=(2)
0 30
fn=(4)
+1 38
+1 2
"""


def test_what_callgrind_writes_is_read() -> None:
    label, cost = callgrind.read(WRITTEN.splitlines())
    assert label == "classify 30"
    assert (cost.total, cost.outside, cost.python, cost.allocations) == (160, 95, 25, 7)
