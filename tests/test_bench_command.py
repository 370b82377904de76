"""``toolkit bench`` and ``python -m toolkit.benchmarking``, as people call them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests.bench_models import SCHEMA, write_artifact, write_tiny_model
from tests.conftest import TOOLKIT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact"), tiny_model)


def _run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLKIT), "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


def test_the_module_measures_with_the_core_alone(tiny_model: Path, tmp_path: Path) -> None:
    out, kept, page, table = (tmp_path / name for name in ("out.json", "settings.json", "page.md", "table.csv"))
    arguments = [str(tiny_model), "--output", str(out), "--quick", "--calls", "400", "--save-settings", str(kept)]
    arguments += ["--markdown", str(page), "--csv", str(table)]
    code = (
        "import sys, toolkit.benchmarking.__main__ as program;"
        f"code = program.main({arguments!r});"
        "heavy = {'typer', 'rich', 'click', 'keras', 'tensorflow', 'onnx', 'PIL', 'matplotlib'} & set(sys.modules);"
        "print(code, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "Single stream" in done.stdout
    value = json.loads(out.read_text())
    jsonschema.validate(value, SCHEMA)
    assert json.loads(kept.read_text())["sha256"] == value["files"][0]["sha256"]
    assert page.read_text().startswith("# Benchmark of tiny.onnx")
    assert table.read_text().startswith("file,kind,scenario")


def test_the_module_says_what_is_wrong_in_one_line(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    out = ["--output", str(tmp_path / "out.json")]
    for code, arguments in (
        (3, [str(tmp_path / "nothing"), *out]),
        (2, [str(tmp_path / "text.onnx"), *out]),
        (2, [str(tiny_model), *out, "--seconds", "5"]),
        (2, [str(tiny_model), *out, "--scenario", "nothing"]),
    ):
        command = [sys.executable, "-m", "toolkit.benchmarking", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("error: ") == 1
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_command_line_gives_json_alone_and_writes_every_sample(artifact: Path) -> None:
    done = _run(artifact, "--json", "--quick", "--rounds", "2", "--calls", "500")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    jsonschema.validate(printed, SCHEMA)
    assert "samples_ns" not in done.stdout
    assert [file["kind"] for file in printed["files"]] == ["int8", "float32"]
    assert "Timing: measuring" in done.stderr
    written = json.loads((artifact / "bench.json").read_text())
    latency = written["files"][0]["scenarios"]["single-stream"]["latency"]
    assert latency["samples_ns"]["counts"] == [500, 500]
    assert latency["p50_ns"] == printed["files"][0]["scenarios"]["single-stream"]["latency"]["p50_ns"]


def test_command_line_shows_tables_and_writes_beside_a_lone_file(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model, tmp_path / "tiny.onnx")
    pages = ["--markdown", "pages/page.md", "--csv", "table.csv", "--plot", "latency.svg"]
    done = _run("tiny.onnx", "--quick", "--save-settings", *pages, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("Machine:", "Software:", "Method:", "Single stream", "Batches", "Cold start", "What it costs"):
        assert words in done.stdout
    assert "time to float32" not in done.stdout  # there is nothing to compare with
    assert json.loads((tmp_path / "tiny.bench.json").read_text())["settings"]["rounds"] == 3
    assert json.loads((tmp_path / "tiny.settings.json").read_text())["threads"] >= 1
    assert (tmp_path / "pages" / "page.md").read_text().startswith("# Benchmark of tiny.onnx")
    assert (tmp_path / "table.csv").read_text().count("\n") > 20
    assert "<svg" in (tmp_path / "latency.svg").read_text()
    assert "Traceback" not in done.stderr


def test_command_line_exit_codes(tmp_path: Path, tiny_model: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    blocked = tmp_path / "file"
    blocked.write_text("")
    cases: list[tuple[int, list[str | Path]]] = [
        (3, [tmp_path / "nothing"]),
        (2, [text]),
        (2, [tmp_path]),  # a folder without a manifest
        (2, [tiny_model, "--rounds", "1"]),
        (2, [tiny_model, "--threads", "4096"]),
        (2, [tiny_model, "--seconds", "5"]),
        (2, [tiny_model, "--quick", "--thorough"]),
        (2, [tiny_model, "--scenario", "nothing"]),
        (2, [tiny_model, "--plot", "latency.pdf"]),
        (2, [tiny_model, "--markdown", tmp_path]),
        (2, [tiny_model, "--output", tmp_path]),
        (2, [tiny_model, "--output", tiny_model]),
        (2, [tiny_model, "--output", tmp_path / "manifest.json"]),
        (2, [tiny_model, "--output", blocked / "bench.json"]),
    ]
    before = tiny_model.read_bytes()
    for code, arguments in cases:
        done = _run(*arguments, cwd=tmp_path)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, len(errors), done.stdout) == (code, 1, ""), (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert tiny_model.read_bytes() == before
