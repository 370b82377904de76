"""`toolkit verify --c` as a person runs it: what passes, what fails, what is missing, and what is written down."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.c_tools import ready_or_skip, reference_in_c, rehashed
from tests.conftest import REFERENCE, toolkit
from toolkit.artifact import C_FILES, load_manifest
from toolkit.errors import CorruptArtifactError
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """The reference model with its C code; tests change it."""
    return reference_in_c(tmp_path)


@pytest.fixture(scope="module")
def few(fashion_mnist: FashionMnist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 test images with their labels."""
    path = tmp_path_factory.mktemp("rows") / "few.npz"
    np.savez(path, x_test=fashion_mnist.test_images[:600], y_test=fashion_mnist.test_labels[:600])
    return path


def test_targets_are_rows_of_every_report(artifact: Path, few: Path) -> None:
    ready_or_skip("gcc-O2", "aarch64")
    done = toolkit("verify", artifact, "--test", few, "--c", "gcc-O2", "--c", "aarch64", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report == json.loads((artifact / "parity.json").read_text())
    assert report["c"]["passed"]
    assert (report["c"]["name"], report["c"]["of"]) == ("model.c", "model.int8.onnx")
    assert [row["made"]["target"] for row in report["c"]["targets"]] == ["gcc-O2", "aarch64"]
    for row in report["c"]["targets"]:
        assert (row["verdict"], row["rows"], row["logits"], row["logits_differ"]) == ("passed", 600, 6_000, 0)
    assert {gate["name"] for gate in report["c"]["gates"]} == {
        f"{what} on {name}"
        for name in ("gcc-O2", "aarch64")
        for what in ("rows without an answer", "logits that differ", "labels that are not the largest logit's")
    }
    rows = load_manifest(artifact).c_targets
    assert [(row.target, row.rows, row.logits_differ) for row in rows] == [("gcc-O2", 600, 0), ("aarch64", 600, 0)]
    Predictor(artifact)


@pytest.mark.slow
def test_rows_of_other_targets_stay_and_a_table_shows_them(artifact: Path, few: Path) -> None:
    ready_or_skip("gcc-O0", "gcc-O2")
    assert toolkit("verify", artifact, "--test", few, "--c", "gcc-O2").code == 0
    done = toolkit("verify", artifact, "--test", few, "--c", "gcc-O0")
    assert done.code == 0, done.err
    assert re.search(r"gcc-O0 .*6,000 of 6,000.*passed", done.out)
    assert [row.target for row in load_manifest(artifact).c_targets] == ["gcc-O0", "gcc-O2"]


@pytest.mark.parametrize(
    ("what", "pattern", "by"),
    [
        ("a weight", r"(weights_2\[\d+\] MODEL_ALIGNED = \{\s*)(-?\d+)", r"\g<1>77"),
        ("a multiplier", r"(sums\[i\] \* )(multipliers?_1\b)", r"\g<1>1.001f * \g<2>"),
    ],
)
def test_c_that_computes_something_else_fails(what: str, pattern: str, by: str, artifact: Path, few: Path) -> None:
    ready_or_skip("gcc-O2")
    code = (artifact / "model.c").read_text()
    broken, count = re.subn(pattern, by, code, count=1)
    assert count == 1, what
    assert broken != code
    (artifact / "model.c").write_text(broken)
    rehashed(artifact)
    done = toolkit("verify", artifact, "--test", few, "--c", "gcc-O2")
    assert done.code == 1
    assert re.search(r"error: model\.c: logits that differ on gcc-O2 is \d+, limit 0", done.error_line)
    assert "export it again with --c" in done.error_line
    assert "FAILED" in done.out
    (row,) = load_manifest(artifact).c_targets
    assert row.logits_differ > 0
    report = json.loads((artifact / "parity.json").read_text())
    assert (report["passed"], report["c"]["passed"]) == (False, False)


def test_c_that_does_not_compile_fails_in_one_line(artifact: Path, few: Path) -> None:
    ready_or_skip("gcc-O2")
    with (artifact / "model.c").open("a") as file:
        file.write("#error is broken\n")
    rehashed(artifact)
    done = toolkit("verify", artifact, "--test", few, "--c", "gcc-O2")
    assert done.code == 1
    assert "rows without an answer on gcc-O2 is 600, limit 0 (it does not compile: model.c:" in done.error_line
    assert "is broken" in done.error_line
    assert load_manifest(artifact).c_targets == []


def test_c_of_another_file_is_refused(artifact: Path, few: Path) -> None:
    ready_or_skip("gcc-O2")
    header = artifact / "model.h"
    header.write_text(re.sub(r"(SOURCE_SHA256 \")\w{64}", r"\g<1>" + "0" * 64, header.read_text()))
    rehashed(artifact)
    done = toolkit("verify", artifact, "--test", few, "--c", "gcc-O2")
    assert done.code == 4
    assert "was made from another file than model.int8.onnx; export it again" in done.error_line


def test_an_artifact_without_c_is_told_how_to_get_it(artifact: Path) -> None:
    manifest = load_manifest(artifact)
    files = {name: entry for name, entry in manifest.files.items() if name not in C_FILES}
    dataclasses.replace(manifest, files=files).write(artifact)
    done = toolkit("verify", artifact, "--c", "gcc-O2")
    assert done.code == 3
    assert f"holds no C code; write it with: toolkit export {artifact} --quantize --c" in done.error_line


def test_a_target_that_does_not_exist_is_refused() -> None:
    done = toolkit("verify", REFERENCE, "--c", "vax")
    assert done.code == 2
    assert "--c is 'vax', expected one of gcc-O0" in done.error_line


def test_a_named_target_without_its_compiler_is_missing(artifact: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = toolkit("verify", artifact, "--c", "all", "--c", "s390x", env={"PATH": str(empty)})
    assert done.code == 3
    assert "s390x-linux-gnu-gcc, which is not on this system; install the package gcc-s390x" in done.error_line
    assert load_manifest(artifact).c_targets == []


def test_manifests_of_earlier_versions_have_no_targets(tmp_path: Path) -> None:
    raw = load_manifest(REFERENCE).to_json()
    del raw["c_targets"]
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    assert load_manifest(tmp_path).c_targets == []
    raw["c_targets"] = [{"target": "gcc-O2", "speed": 1}]
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(CorruptArtifactError, match="speed"):
        load_manifest(tmp_path)


@pytest.mark.slow
def test_all_targets_at_once(artifact: Path) -> None:
    done = toolkit("verify", artifact, "--c", "all", seconds=1200)
    assert done.code == 0, done.err
    rows = load_manifest(artifact).c_targets
    assert rows
    assert {(row.rows, row.logits_differ) for row in rows} == {(10_000, 0)}
