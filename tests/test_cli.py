"""The command line through the installed entry point: start-up, help, errors, exit codes, interruption."""

from __future__ import annotations

import csv
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests import breaking
from tests.conftest import REFERENCE, ROOT, TOOLKIT, Finished, toolkit
from toolkit.data import CLASS_NAMES

COMMANDS = [
    "run",
    "data",
    "train",
    "sweep",
    "export",
    "verify",
    "predict",
    "inspect",
    "report",
    "bench",
    "bench compare",
]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], *([command, "--help"] for command in COMMANDS)])
def test_starting_imports_nothing_heavier_than_typer_and_rich(arguments: list[str]) -> None:
    script = f"""
import sys
sys.argv = ["toolkit", *{arguments!r}]
from toolkit.cli.app import main
try:
    main()
except SystemExit as error:
    assert error.code == 0, error.code
heavy = {{"numpy", "onnxruntime", "tensorflow", "keras", "onnx", "tf2onnx", "PIL", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    if arguments[0] in COMMANDS:
        assert "Example" in done.stdout


def test_no_arguments_shows_the_help() -> None:
    finished = toolkit()
    assert all(command in finished.out + finished.err for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "--no-such-option"], 2, "--no-such-option"),
        (["no-such-command"], 2, "no-such-command"),
        (["train", "--epochs", "many"], 2, "--epochs"),
        (["train", "--hidden", "300,x"], 2, "expected layer sizes"),
        (["train", "--optimizer", "rmsprop"], 2, "expected one of sgd, adam, adamw"),
        (["train", "--learning-rate", "nan"], 2, "learning_rate is nan"),
        (["train", "--hidden", "0"], 2, "hidden is (0,)"),
        (["train", "--hidden", "99999999999999"], 2, "at most"),
        (["train", "--batch-size", "99999999999999999999"], 2, "batch_size is"),
        (["train", "--seed", "99999999999"], 2, "--seed"),
        (["verify", "exported/fashion-mnist/model.onnx"], 2, "is a file"),
        (["verify", "exported/fashion-mnist", "-o", "."], 2, "is a folder"),
        (["verify", "exported/fashion-mnist", "-o", "exported/fashion-mnist/model.keras"], 2, "expected a name"),
        (["train", "--output", ".", "--epochs", "1"], 2, "current folder"),
        (["export", "exported/fashion-mnist", "--per-channel"], 2, "would do nothing"),
        (["export", "exported/fashion-mnist", "--min-agreement", "0.9"], 2, "--min-agreement would do nothing"),
        (["verify", "exported/fashion-mnist", "--json", "--flips", "3"], 2, "--flips does nothing"),
        (["export", "exported/fashion-mnist", "--input", "int64"], 2, "expected uint8, int8 or float32"),
        (
            ["export", "exported/fashion-mnist", "--quantize", "dynamic", "--calibration-images", "9"],
            2,
            "would do nothing",
        ),
        (["export", "nothing.keras"], 3, "does not exist"),
        (["verify", "nothing"], 3, "does not exist"),
        (["verify", "tests"], 2, "no artifact"),
        (["verify", "exported/fashion-mnist", "--min-agreement", "98"], 2, "expected a share from 0 to 1"),
        (["train", "--data", "tests", "--output", "exported/never"], 3, "tests lacks"),
        (["train", "--output", "README.md", "--epochs", "1"], 2, "is a file"),
        (["train", "--output", "tests", "--epochs", "1"], 2, "nor an artifact"),
        (["train", "--output", "/proc/nothing", "--epochs", "1"], 2, "/proc/"),
    ],
)
def test_a_mistake_gets_one_line_and_its_exit_code(arguments: list[str], code: int, says: str) -> None:
    finished = toolkit(*arguments)
    assert finished.code == code, finished.err
    assert says in finished.error_line
    assert finished.out == ""


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "it is empty"),
        ("text", "neither a zip archive nor HDF5"),
        ("truncated", "damaged or truncated zip archive"),
        ("zip", "a zip archive without config.json"),
    ],
)
def test_what_is_no_keras_model_is_refused(tmp_path: Path, kind: str, says: str) -> None:
    whole = (REFERENCE / "model.keras").read_bytes()
    path = tmp_path / "model.keras"
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "other"), "zip", ROOT / "tests" / "golden")
        (tmp_path / "other.zip").rename(path)
    else:
        path.write_bytes({"empty": b"", "text": b"no model\n", "truncated": whole[: len(whole) // 2]}[kind])
    finished = toolkit("export", path, "-o", tmp_path / "out")
    assert finished.code == 2
    assert says in finished.error_line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.keras"]


@pytest.mark.slow
def test_a_lone_keras_file_is_exported_beside_nothing_else(tmp_path: Path) -> None:
    shutil.copy(REFERENCE / "model.keras", tmp_path / "my.keras")
    finished = toolkit("export", "my.keras", "--quantize", "dynamic", "--json", cwd=tmp_path, fresh=True)
    assert finished.code == 0, finished.err
    answer = json.loads(finished.out)
    assert answer["artifact"] == "exported/my"
    assert answer["manifest"]["quantization"]["recipe"]["method"] == "dynamic"
    assert answer["manifest"]["training"] is None
    assert toolkit("verify", tmp_path / "exported" / "my").code == 0


def test_export_alone_drops_a_stale_int8_file(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    (artifact / "notes.txt").write_text("mine")
    assert toolkit("export", artifact).code == 0
    names = {path.name for path in artifact.iterdir()}
    assert {"model.keras", "history.csv", "model.onnx", "notes.txt", "parity.json"} <= names
    assert "model.int8.onnx" not in names
    assert "bench.json" not in names


def test_a_manifest_of_an_artifact_without_model(tmp_path: Path) -> None:
    artifact = breaking.copy_of(REFERENCE, tmp_path)
    manifest = json.loads((artifact / "manifest.json").read_text())
    del manifest["files"]["model.keras"]
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    finished = toolkit("verify", artifact)
    assert finished.code == 3
    assert "holds no model.keras" in finished.error_line


def test_an_unwritable_output_is_refused() -> None:
    """As a person who is not root: where the tests run as root, the writing process gives its rights up."""
    with tempfile.TemporaryDirectory() as closed:
        Path(closed).chmod(0o555)
        script = f"""
import os
from pathlib import Path
from toolkit.publishing import write_atomic
from toolkit.staged_folders import staged_folder
if os.geteuid() == 0:
    os.setuid(65534)
def a_folder():
    with staged_folder(Path({closed!r}) / "artifact"):
        pass
def a_file():
    write_atomic(Path({closed!r}) / "report.json", "1")
for write in (a_folder, a_file):
    try:
        write()
    except Exception as error:
        print(type(error).__name__, error)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
        Path(closed).chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("UsageError cannot write") and "choose another" in line for line in lines)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(closed: str) -> None:
    command = f"exec {shlex.quote(str(TOOLKIT))} predict exported/fashion-mnist/samples/3-dress.png --json {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    if ">&-" not in closed.replace("2>&-", ""):
        assert json.loads(done.stdout)["class_name"] == "Dress"


def test_ctrl_c_while_starting_is_clean() -> None:
    for delay in (0.03, 0.05, 0.08, 0.12):
        process = _start("train", "--output", "exported/never")
        command_line = Path(f"/proc/{process.pid}/cmdline")
        while command_line.is_file() and b"exported/never" not in command_line.read_bytes():
            time.sleep(0.001)  # it is still a copy of this process, in which the signal would be lost
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        # Before our first line Python itself is interrupted (in the command's own script, say); after it, no traceback
        # is ours to show.
        assert f"{ROOT / 'toolkit'}/" not in err
        assert "import toolkit" not in err
        assert "from toolkit" not in err
        assert process.returncode in (130, -signal.SIGINT)


def test_an_export_takes_what_it_checked(trained: Path, tmp_path: Path) -> None:
    """A source that is changed after its manifest was written is refused, not half taken over."""
    source = breaking.copy_of(trained, tmp_path)
    shutil.copy(REFERENCE / "model.keras", source / "model.keras")
    finished = toolkit("export", source, "-o", tmp_path / "out")
    assert finished.code == 4
    assert "model.keras was changed or damaged" in finished.error_line
    assert not (tmp_path / "out").exists()


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(TOOLKIT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        # Where the tests run in the background of a script, SIGINT is ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - before any thread of ours
    )


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came")


def test_ctrl_c_ends_training_cleanly(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    before = {path.name: path.read_bytes() for path in artifact.iterdir() if path.is_file()}
    process = _start("train", "--output", artifact, "--epochs", 50)
    _wait_for(process, "epoch 1/50")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "error: interrupted; nothing half-written was left behind"
    assert "Traceback" not in err
    assert {path.name: path.read_bytes() for path in artifact.iterdir() if path.is_file()} == before
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


def test_two_runs_into_one_folder_and_a_kill(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    before = {path.name: path.read_bytes() for path in artifact.iterdir() if path.is_file()}
    process = _start("train", "--output", artifact, "--epochs", 50)
    _wait_for(process, "epoch 1/50")
    second = toolkit("export", artifact)
    assert second.code == 2
    assert f"(process {process.pid}) is writing" in second.error_line
    process.kill()
    process.communicate(timeout=60)
    assert {path.name: path.read_bytes() for path in artifact.iterdir() if path.is_file()} == before
    # The lock went with the process, and what it left behind goes with the next run.
    assert toolkit("export", artifact).code == 0
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


@pytest.mark.parametrize(("first", "found"), [("import toolkit.cli.app", "False"), ("", "True")])
def test_matplotlib_is_hidden_from_keras_in_the_command_alone(first: str, found: str, tmp_path: Path) -> None:
    """Keras imports it where it can, which takes long. Stand-ins show what Keras and those after it see."""
    (tmp_path / "keras.py").write_text(
        "from importlib import import_module\nfound = True\n"
        "try:\n    import_module('matplotlib.pyplot')\nexcept ImportError:\n    found = False\n"
    )
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").touch()
    (tmp_path / "matplotlib" / "pyplot.py").touch()
    (tmp_path / "tensorflow.py").write_text("class config:\n    list_logical_devices = staticmethod(list)\n")
    script = f"{first}\nfrom toolkit.keras_model.runtime import import_keras\nprint(import_keras().found)\n"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", script + "import matplotlib.pyplot"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [found], done.stderr
    assert done.returncode == 0, done.stderr


def test_training_shows_a_bar_in_a_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    command = [str(TOOLKIT), "train", "--output", str(tmp_path / "run"), "--epochs", "2", "--hidden", "16"]
    with subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, cwd=ROOT) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # the terminal closes with the process
                break
            if not part:
                break
            shown += part
    os.close(master)
    assert process.returncode == 0, shown
    assert b"\x1b[" in shown
    assert b"epoch 2/2" in shown


@pytest.mark.slow
def test_an_artifact_of_an_earlier_format_is_exported_again(tmp_path: Path) -> None:
    """Its manifest says less than today's, so that nothing can be taken from it but the model."""
    artifact = breaking.copy_of(REFERENCE, tmp_path)
    manifest = json.loads((artifact / "manifest.json").read_text())
    del manifest["cpus"], manifest["conversion"], manifest["data"]
    (artifact / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    for command in (["verify", artifact], ["export", artifact], ["predict", "-m", artifact, "nothing.png"]):
        refused = toolkit(*command)
        assert refused.code == 4
        assert "has format 2, this version reads 3; export its model.keras again" in refused.error_line
    again = toolkit("export", artifact / "model.keras", "-o", artifact)
    assert again.code == 0, again.err
    assert json.loads((artifact / "manifest.json").read_text())["format"] == 3
    assert toolkit("verify", artifact).code == 0


class TestWholeRun:
    """`toolkit run` on the real data, with two epochs."""

    def test_it_ends_in_a_summary(self, whole_run: tuple[Path, Finished]) -> None:
        folder, finished = whole_run
        assert finished.code == 0, finished.err
        for word in (
            "model.keras",
            "model.onnx",
            "model.int8.onnx",
            "test accuracy",
            "p50",
            str(folder),
            "toolkit predict",
        ):
            assert word in finished.out
        assert "epoch 2/2" in finished.err
        assert "10,000 of 10,000" in finished.out

    def test_it_leaves_a_whole_artifact(self, trained: Path) -> None:
        assert sorted(path.name for path in trained.iterdir()) == [
            "bench.json",
            "golden.npz",
            "history.csv",
            "manifest.json",
            "model.int8.onnx",
            "model.keras",
            "model.onnx",
            "parity.json",
            "samples",
        ]
        manifest = json.loads((trained / "manifest.json").read_text())
        assert manifest["training"]["recipe"]["epochs"] == 2
        assert manifest["training"]["validation_accuracy"] > 0.8
        parity = manifest["parity"]
        assert [(row["output"], row["task"]) for rows in parity.values() for row in rows] == (
            [("probabilities", "classification")] * 2
        )
        assert parity["model.onnx"][0]["agreement"] == 1.0
        assert parity["model.int8.onnx"][0]["accuracy"] > 0.8
        with (trained / "history.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 2
        assert len(list((trained / "samples").iterdir())) == 10

    def test_its_samples_are_predicted(self, trained: Path) -> None:
        samples = sorted((trained / "samples").iterdir())
        finished = toolkit("predict", "--model", trained, "--json", *samples)
        assert finished.code == 0, finished.err
        answers = [json.loads(line) for line in finished.out.splitlines()]
        assert [answer["file"] for answer in answers] == [str(path) for path in samples]
        right = sum(answer["label"] == int(path.name[0]) for answer, path in zip(answers, samples, strict=True))
        assert right >= 7
        assert all(answer["class_name"] == CLASS_NAMES[answer["label"]] for answer in answers)


class TestReference:
    """The committed artifact is right, and was made by the commands."""

    def test_it_verifies(self, tmp_path: Path) -> None:
        finished = toolkit("verify", REFERENCE, "--json", "--output", tmp_path / "parity.json", fresh=True)
        assert finished.code == 0, finished.err
        report = json.loads(finished.out)
        assert report["reference"][0]["accuracy"] >= 0.89
        float32, int8 = report["files"]
        assert float32["outputs"][0]["parity"]["agreement"] == 1.0
        assert float32["outputs"][0]["parity"]["max_abs"] <= 1e-5
        assert int8["outputs"][0]["parity"]["agreement"] >= 0.98
        assert int8["outputs"][0]["parity"]["accuracy_drop"] <= 0.005

    def test_its_recipe_can_be_trained_again(self) -> None:
        from toolkit.training.recipe_files import find_recipe

        recipe = find_recipe(str(REFERENCE / "manifest.json"))
        training = json.loads((REFERENCE / "manifest.json").read_text())["training"]
        assert training["epochs_run"] == recipe.epochs
        assert recipe.hidden == (300, 100)
