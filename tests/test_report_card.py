"""The model card: front matter as the Hugging Face hub reads it, and the same figures as the page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.conftest import REFERENCE, toolkit
from tests.reports import copied, with_bench
from toolkit.card_mark import CARD_MARK, is_own_card

MANIFEST = json.loads((REFERENCE / "manifest.json").read_text())


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Front matter and text of the reference artifact's card."""
    artifact = copied(tmp_path_factory.mktemp("card"))
    with_bench(artifact)
    done = toolkit("report", artifact, "--markdown")
    assert done.code == 0, done.err
    assert done.out.startswith(f"Model card: {artifact / 'README.md'}")
    assert is_own_card(artifact / "README.md")
    assert not (artifact / "report.html").exists()
    text = (artifact / "README.md").read_text(encoding="utf-8")
    empty, front, rest = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    assert empty == ""
    return yaml.safe_load(front), rest


def test_front_matter(card: tuple[dict[str, Any], str]) -> None:
    front, _ = card
    assert front["license"] == "mit"
    assert front["library_name"] == "onnx"
    assert front["pipeline_tag"] == "image-classification"
    assert front["datasets"] == ["zalando-datasets/fashion_mnist"]
    assert front["metrics"] == ["accuracy"]
    assert {"onnx", "onnxruntime", "int8", "float32"} <= set(front["tags"])
    (model,) = front["model-index"]
    assert model["name"] == "fashion-mnist"
    found = {}
    for result in model["results"]:
        assert result["task"] == {"type": "image-classification"}
        assert result["dataset"] == {
            "name": "Fashion-MNIST",
            "type": "zalando-datasets/fashion_mnist",
            "split": "test",
        }
        (metric,) = result["metrics"]
        assert metric["type"] == "accuracy"
        found[metric["name"]] = metric["value"]
    assert found == {f"accuracy of {name}": rows[0]["accuracy"] for name, rows in MANIFEST["parity"].items()}


def test_what_it_says(card: tuple[dict[str, Any], str]) -> None:
    _, text = card
    for said in (
        "# fashion-mnist",
        "266,610 parameters",
        "| hidden\\_1 | dense, relu | 235,500 | 235,200 |",
        "from toolkit.predictor import Predictor",
        f"{MANIFEST['parity']['model.int8.onnx'][0]['accuracy']:.2%}",
        "Expected calibration error",
        "| latency of one row | p50 | p99 |",
        "toolkit export fashion-mnist --quantize",
        MANIFEST["files"]["model.int8.onnx"]["sha256"],
    ):
        assert said in text, said
    assert text.rstrip().endswith(CARD_MARK)
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert heads == ["Use", "Files", "Network", "Training", "Results", "Export", "Limits", "Provenance"]


def test_settings_within_a_setting_have_rows_of_their_own(card: tuple[dict[str, Any], str]) -> None:
    _, text = card
    teacher = MANIFEST["training"]["recipe"]["teacher"]
    assert f"| teacher, count | {teacher['count']} |" in text
    assert f"| teacher, batch size | {teacher['batch_size']} |" in text
    assert "{'" not in text


def test_every_table_has_cells_for_its_columns(card: tuple[dict[str, Any], str]) -> None:
    blocks = re.findall(r"(?:^\|.*\|\n)+", card[1], re.MULTILINE)
    assert len(blocks) >= 7
    for block in blocks:
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
