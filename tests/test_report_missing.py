"""The report of artifacts that lack something, and what is refused."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.breaking import repin
from tests.conftest import REFERENCE, ROOT, toolkit
from tests.own import command
from tests.reports import SECTIONS, Page, copied, edit_manifest, reported, with_bench, without
from toolkit import artifact as artifacts
from toolkit.card_mark import CARD_MARK
from toolkit.errors import UsageError
from toolkit.predictor import Predictor
from toolkit.report import make_report
from toolkit.staged_folders import staged_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from toolkit.data import FashionMnist


def _forget(*names: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update(dict.fromkeys(names))


def _no_history(folder: Path) -> None:
    without(folder, "history.csv")


def _no_record(folder: Path) -> None:
    edit_manifest(folder, _forget("training"))


def _no_parity(folder: Path) -> None:
    (folder / "parity.json").unlink()


def _stale_parity(folder: Path) -> None:
    text = (folder / "parity.json").read_text()
    sha = json.loads((folder / "manifest.json").read_text())["files"]["model.onnx"]["sha256"]
    (folder / "parity.json").write_text(text.replace(sha, "0" * 64))


def _older_parity(folder: Path) -> None:
    (folder / "parity.json").write_text('{"format": 1}')


def _no_int8(folder: Path) -> None:
    without(folder, "model.int8.onnx")
    edit_manifest(folder, _forget("quantization"))
    (folder / "parity.json").unlink()


def _no_golden(folder: Path) -> None:
    without(folder, "golden.npz")


def _no_cpus(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(cpus={}))


def _no_keras(folder: Path) -> None:
    without(folder, "model.keras")


def _stale_bench(folder: Path) -> None:
    with_bench(folder, lambda report: report["files"][0].update(sha256="0" * 64))


def _older_bench(folder: Path) -> None:
    with_bench(folder, lambda report: report.update(format=2))


AGAIN = (
    "toolkit train --recipe fashion-mnist/manifest.json "
    f"--seed {json.loads((REFERENCE / 'manifest.json').read_text())['training']['seed']} --output fashion-mnist"
)
LACKING = [
    (_no_history, "There is no history.csv", AGAIN),
    (_no_record, "There is no record of its training", None),
    (_no_parity, "There is no parity.json", "toolkit verify fashion-mnist"),
    (_stale_parity, "parity.json is about other files", "toolkit verify fashion-mnist"),
    (_older_parity, "parity.json is of format 1", "toolkit verify fashion-mnist"),
    (_no_int8, "There is no quantized file", "toolkit export fashion-mnist --quantize"),
    (_no_golden, "There is no golden.npz", "toolkit export fashion-mnist --quantize"),
    (_no_cpus, "did not run on other CPUs", "toolkit verify fashion-mnist --cpu all"),
    (_no_keras, "cannot be verified again", None),
    (_stale_bench, "bench.json is about other files", "toolkit bench fashion-mnist"),
    (_older_bench, "bench.json is of format 2", "toolkit bench fashion-mnist"),
]


@pytest.mark.parametrize(("change", "why", "adds"), LACKING, ids=lambda each: getattr(each, "__name__", ""))
def test_what_is_missing_is_said_with_the_command_that_adds_it(
    tmp_path: Path, change: Callable[[Path], None], why: str, adds: str | None
) -> None:
    folder = copied(tmp_path)
    change(folder)
    text, found, done = reported(folder)
    page = Page(text)
    assert set(SECTIONS) <= set(page.ids)
    assert why in page.text
    if adds is not None:
        assert f"It comes with {adds} ." in page.text
        assert any(adds in each["command"] and why in each["missing"] for each in found["missing"])
        assert adds in done.err
    for results in (found["results"]["accuracy"], found["network"]["parameters"]):
        assert results is not None
    card = command("report", folder, "--markdown", "-o", tmp_path / "card.md", cwd=tmp_path)
    assert card.code == 0, card.err


def test_targets_of_the_c_code_are_shown_where_there_are_any(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit_manifest(folder, lambda manifest: manifest.update(c_targets=[]))
    text, found, _ = reported(folder)
    assert found["c_targets"] == []
    assert "The model in C" not in Page(text).text
    row = {
        "machine": "Cortex-M3, floats in software", "runs_on": "qemu-system-arm 7.2", "compiler": "gcc 12.2.1",
        "flags": "-mcpu=cortex-m3", "rows": 10_000, "logits_differ": 0, "logits_max_abs": 0.0, "text": 1, "data": 2,
        "bss": 3, "instructions": 851_955, "flash": 288_048, "ram": 3_500,
    }  # fmt: skip
    targets = [{**row, "target": "cortex-m3"}, {**row, "target": "other", "logits_differ": 7, "flash": None}]
    edit_manifest(folder, lambda manifest: manifest.update(c_targets=targets))
    text, found, _ = reported(folder)
    assert found["c_targets"] == targets
    shown = Page(text).text
    assert "gcc 12.2.1 -mcpu=cortex-m3 Cortex-M3, floats in software, qemu-system-arm 7.2 the same bits" in shown
    assert "10,000 0 851,955 288,048 3,500" in shown
    assert "7 values differ" in shown
    assert "toolkit verify fashion-mnist --c cortex-m3 --c other" in shown
    card = command("report", folder, "--markdown", cwd=tmp_path)
    assert card.code == 0, card.err
    assert (
        "| `other` | Cortex-M3, floats in software | 7 values differ | 10,000 |" in (folder / "README.md").read_text()
    )


def test_flips_without_parity_are_those_to_the_float32_file(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "parity.json").unlink()
    _, found, _ = reported(folder)
    assert found["flips"]["reference"] == "model.onnx"
    assert found["passed"] is None


def test_an_artifact_that_was_only_trained(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    without(folder, "model.onnx", "model.int8.onnx", "golden.npz")
    edit_manifest(folder, _forget("data", "conversion", "quantization"))
    edit_manifest(folder, lambda manifest: manifest.update(inputs=[], outputs=[], class_names=None))
    (folder / "parity.json").unlink()
    text, found, _ = reported(folder)
    page = Page(text)
    assert set(SECTIONS) <= set(page.ids)
    assert found["network"]["parameters"] == 266_610  # of the Keras model
    assert found["data"]["rows"]["test"] == 10_000
    assert found["training"]["best_epoch"] > 1
    nothing = {"missing": "Nothing was exported yet.", "command": "toolkit export fashion-mnist --quantize"}
    for part in ("results", "neurons", "live", "flips", "layers", "cpus", "bench"):
        assert found[part] == nothing, part
    assert found["missing"] == [nothing]
    assert page.text.count("Nothing was exported yet.") == 4  # neurons, live, results, export
    card = command("report", folder, "--markdown", cwd=tmp_path)
    assert card.code == 0, card.err
    assert "library_name: keras" in (folder / "README.md").read_text()


def test_a_recipe_of_any_form_is_shown(tmp_path: Path) -> None:
    folder = copied(tmp_path)

    def change(manifest: dict[str, Any]) -> None:
        manifest["training"]["recipe"] |= {
            "teacher": {"count": 2, "width": 48, "precision": "mixed_bfloat16"},
            "teacher_files": [],
            "stages": [{"rate": 0.1}, {"rate": 1e-6}],
            "flip": True,
        }

    edit_manifest(folder, change)
    text = Page(reported(folder)[0]).text
    for said in (
        "teacher, count 2",
        "teacher, precision mixed_bfloat16",
        "stages, 1, rate 0.1",
        "stages, 2, rate 1e-06",
    ):
        assert said in text, said
    assert "teacher files none" in text
    assert "flip yes" in text


def test_names_of_anybodys_are_shown_as_they_are(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    evil = '<script>alert("1")</script>&amp;\' \u202e\ud800|```*'
    harmless = evil.replace("\u202e\ud800", "\ufffd\ufffd")

    def change(manifest: dict[str, Any]) -> None:
        manifest["name"] = evil
        manifest["training"]["recipe"]["name"] = evil
        manifest["class_names"][3] = evil

    edit_manifest(folder, change)
    text, found, _ = reported(folder)
    assert "<script>alert" not in text  # our own there are
    page = Page(text)
    assert harmless in page.text
    assert found["name"] == evil
    card = command("report", folder, "--markdown", "-o", tmp_path / "card.md", cwd=tmp_path)
    assert card.code == 0, card.err
    written = (tmp_path / "card.md").read_text()
    assert yaml.safe_load(written.split("\n---\n", 1)[0].removeprefix("---\n"))["model-index"][0]["name"] == evil
    text = re.sub(r"^```.*?^```$", "", written.split("\n---\n", 1)[1], flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in text
    assert written.split("\n---\n", 1)[1].count("```") == 4


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _other_history(folder: Path) -> None:
    (folder / "history.csv").write_text("a,b\n1,2\n")
    repin(folder)


def _half_bench(folder: Path) -> None:
    with_bench(folder, lambda report: report["files"][0].pop("scenarios"))


CORRUPT = [
    (lambda folder: _flip(folder / "model.int8.onnx"), "model.int8.onnx was changed or damaged"),
    (lambda folder: _flip(folder / "model.keras"), "model.keras was changed or damaged"),
    (lambda folder: (folder / "history.csv").unlink(), "history.csv is named by manifest.json but is missing"),
    (_other_history, "history.csv has the columns a, b"),
    (lambda folder: (folder / "parity.json").write_text('{"format": 2'), "parity.json is damaged"),
    (lambda folder: (folder / "parity.json").write_text("[]"), "parity.json is damaged"),
    (lambda folder: (folder / "parity.json").write_text('{"format": 2, "files": [{}]}'), "parity.json is incomplete"),
    (lambda folder: (folder / "bench.json").write_text("?"), "bench.json is damaged"),
    (_half_bench, "bench.json is incomplete"),
    (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
]


@pytest.mark.parametrize(("change", "why"), CORRUPT, ids=[why for _, why in CORRUPT])
def test_damage_exits_4_and_writes_nothing(tmp_path: Path, change: Callable[[Path], object], why: str) -> None:
    folder = copied(tmp_path)
    change(folder)
    before = sorted(path.name for path in folder.iterdir())
    done = toolkit("report", folder)
    assert (done.code, done.out) == (4, "")
    assert why in done.error_line
    assert sorted(path.name for path in folder.iterdir()) == before


def test_bad_usage_exits_2(tmp_path: Path, bundles: Any) -> None:
    folder = copied(tmp_path)
    (tmp_path / "file").write_text("")
    for arguments, said in (
        ((folder, "-o", tmp_path), "expected a name that ends in .html"),
        ((folder, "-o", tmp_path / "a.pdf"), "expected a name that ends in .html or .htm"),
        ((folder, "--markdown", "-o", tmp_path / "a.html"), "expected a name that ends in .md"),
        ((folder, "-o", tmp_path / "file" / "a.html"), "choose another --output"),
        ((folder, "--images", tmp_path / "file"), "--images is"),
        ((folder, "--test", tmp_path / "file", "--data", tmp_path), "--data names Fashion-MNIST"),
        ((bundles.folder,), "is a bundle for a device"),
        ((folder / "model.onnx",), "is a file, expected an artifact folder"),
        ((tmp_path,), "is no artifact"),
    ):
        done = toolkit("report", *arguments)
        assert done.code == 2, done.err
        assert said in done.error_line
    assert not (folder / "report.html").exists()


def test_what_is_not_there_exits_3(tmp_path: Path) -> None:
    done = toolkit("report", tmp_path / "nowhere")
    assert done.code == 3
    assert "does not exist" in done.error_line
    assert not (tmp_path / "nowhere").exists()
    for name, said in (("PIL", "needs Pillow"), ("onnx", "needs onnx")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(f"raise ImportError('no {name} here')")
        done = toolkit("report", copied(tmp_path / name), env={"PYTHONPATH": f"{tmp_path / name}{os.pathsep}{ROOT}"})
        assert done.code == 3, done.err
        assert said in done.error_line
        assert "pip install" in done.error_line


def test_a_persons_own_readme_stays(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "README.md").write_text("mine")
    done = toolkit("report", folder, "--markdown")
    assert done.code == 2
    assert "was not written by this command" in done.error_line
    assert (folder / "README.md").read_text() == "mine"
    (folder / "README.md").unlink()
    for _ in range(2):
        assert toolkit("report", folder, "--markdown").code == 0
    assert (folder / "README.md").read_text().rstrip().endswith(CARD_MARK)


@pytest.mark.slow
def test_reports_in_an_artifact_hinder_nobody(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    reported(folder)
    assert toolkit("report", folder, "--markdown").code == 0
    artifacts.check_files(folder, artifacts.load_manifest(folder))
    assert Predictor(folder).file.kind == "int8"
    done = toolkit("bundle", folder, "-o", tmp_path / "device")
    assert done.code == 0, done.err
    assert not (tmp_path / "device" / "report.html").exists()
    assert CARD_MARK not in (tmp_path / "device" / "README.md").read_text()
    done = toolkit("verify", folder, "-o", tmp_path / "parity.json")
    assert done.code == 0, done.err


@pytest.mark.parametrize("own", [True, False])
def test_a_report_goes_with_its_model(tmp_path: Path, own: bool) -> None:
    folder = copied(tmp_path)
    (folder / "report.html").write_text("of the earlier model")
    (folder / "README.md").write_text("mine" if own else f"of the earlier model\n\n{CARD_MARK}\n")
    (folder / "notes.txt").write_text("mine")
    with staged_folder(folder) as staging:
        (staging / "manifest.json").write_text((REFERENCE / "manifest.json").read_text())
    names = {"manifest.json", "notes.txt", "samples"}
    assert {path.name for path in folder.iterdir()} == (names | {"README.md"} if own else names)


def test_an_artifact_that_is_replaced_meanwhile(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    folder = copied(tmp_path)

    def reading() -> FashionMnist:
        without(folder, "history.csv")
        return fashion_mnist

    with pytest.raises(UsageError, match="was replaced by another command"):
        make_report(folder, None, reading, lambda *_: None)
