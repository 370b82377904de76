"""A predictor's life: closed, pickled, forked, in workers, in many threads, and while the interpreter shuts down."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REFERENCE, ROOT
from toolkit.predictor import CorruptArtifactError, MissingError, Predictor, RuntimeSettings, UsageError

GOLDEN = Path(__file__).parent / "golden" / "keras.npz"
IMAGES = np.load(GOLDEN)["images"]


def run_alone(script: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, without TensorFlow's threads in it."""
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


OPEN = f"""
import os, sys, numpy as np
from toolkit.predictor import Predictor, RuntimeSettings, UsageError
images = np.load({str(GOLDEN)!r})["images"]
predictor = Predictor({str(REFERENCE)!r})
expected = predictor.predict_batch(images).labels.tolist()
"""


def test_threads_at_once_get_their_own_answers() -> None:
    predictor = Predictor(REFERENCE)
    expected = [predictor.classify(image) for image in IMAGES]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(lambda: [predictor.classify(image) for image in IMAGES]) for _ in range(64)]
        assert all(future.result() == expected for future in futures)


def test_closed_it_refuses_and_the_session_goes() -> None:
    with Predictor(REFERENCE) as predictor:
        predictor.classify(IMAGES[0])
    for ask in (
        lambda: predictor.classify(IMAGES[0]),
        lambda: predictor.predict(IMAGES[0]),
        lambda: predictor.predict_batch(IMAGES),
        lambda: predictor.predict_batch(IMAGES[:0]),
        lambda: list(predictor.predict_batch(iter([IMAGES]))),
        lambda: pickle.dumps(predictor),
    ):
        with pytest.raises(UsageError, match=r"was closed.*open another"):
            ask()
    predictor.close()  # again is no error


def test_closing_lets_calls_in_other_threads_finish() -> None:
    predictor = Predictor(REFERENCE)
    started, ends = threading.Barrier(9), []

    def work() -> None:
        started.wait()
        try:
            while True:
                predictor.classify(IMAGES[0])
        except UsageError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait()
    predictor.close()
    for thread in threads:
        thread.join(10)
    assert len(ends) == 8


def test_pickle_opens_again_from_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = RuntimeSettings(optimization="basic", batch_rows=7)
    predictor = Predictor(REFERENCE.relative_to(ROOT), kind="float32", settings=settings, min_confidence=0.5)
    copied = pickle.dumps(predictor)
    monkeypatch.chdir("/")
    again = pickle.loads(copied)  # noqa: S301 - our own bytes
    assert (again.file, again.settings, again.min_confidence) == (predictor.file, settings, 0.5)
    assert again.classify(IMAGES[0]) == predictor.classify(IMAGES[0])


def test_what_was_pickled_must_be_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(REFERENCE / "model.int8.onnx", path)
    copied = pickle.dumps(Predictor(path))
    shutil.copy(REFERENCE / "model.onnx", path)
    with pytest.raises(CorruptArtifactError, match="another file by now"):
        pickle.loads(copied)  # noqa: S301 - our own bytes
    path.unlink()
    with pytest.raises(MissingError):
        pickle.loads(copied)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_can_go_on(threads: int) -> None:
    script = f"""{OPEN}
predictor = Predictor({str(REFERENCE)!r}, settings=RuntimeSettings(threads={threads}))
expected = [predictor.classify(image) for image in images]
os.chdir("/")
child = os.fork()
if child == 0:
    same = [predictor.classify(image) for image in images] == expected
    same &= predictor.predict_batch(images).labels.tolist() == expected
    predictor.close()
    try:
        predictor.classify(images[0])
    except UsageError:
        raise SystemExit(0 if same else 5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert [predictor.classify(image) for image in images] == expected
predictor.close()
child = os.fork()
if child == 0:
    try:
        predictor.classify(images[0])
    except UsageError:
        raise SystemExit(0)
    raise SystemExit(6)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = run_alone(script)
    assert done.returncode == 0, done.stderr


AT_THE_END = {
    "a function at exit": "import atexit; atexit.register(lambda: print(predictor.predict(images[0]).label))",
    "an object's end": """
class Late:
    def __init__(self): self.predictor, self.image = predictor, images[0]
    def __del__(self): print(self.predictor.predict(self.image).label)
late = Late()
""",
    "daemon threads": """
import threading, time
def work():
    while True: predictor.classify(images[0])
for _ in range(4): threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
print(expected[0])
""",
    "daemon threads with batches": """
import threading, time
rows = np.repeat(images, 500, axis=0)
def work():
    while True: predictor.predict_batch(rows)
for _ in range(4): threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
print(expected[0])
""",
    "opened at the end": f"""
class Late:
    def __init__(self): self.Predictor, self.UsageError, self.label = Predictor, UsageError, expected[0]
    def __del__(self):
        try: self.Predictor({str(REFERENCE)!r})
        except self.UsageError as error: print(self.label if "shutting down" in str(error) else error)
late = Late()
""",
}


@pytest.mark.parametrize("when", AT_THE_END)
def test_while_python_shuts_down_nothing_crashes(when: str) -> None:
    done = run_alone(f"{OPEN}\n{AT_THE_END[when]}")
    label = np.load(GOLDEN)["probabilities"].argmax(axis=1)[0]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{label}\n", "")


WORKERS = f"""
import multiprocessing, resource, sys
import numpy as np
from toolkit.predictor import Predictor

IMAGES = np.load({str(GOLDEN)!r})["images"]
BLOCKS, REPEATED, MEMORY = 300, 200, 500_000_000  # of 20 images each: 941 MB of pixels

def limit(predictor):
    global PREDICTOR
    PREDICTOR = predictor
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))

def work(block):
    rows = np.repeat(np.roll(IMAGES, block, axis=0), REPEATED, axis=0)
    batch = PREDICTOR.predict_batch(rows)
    return batch.labels.astype(np.int8), float(batch.confidences.sum())

if __name__ == "__main__":
    predictor = Predictor({str(REFERENCE)!r})
    expected = predictor.predict_batch(IMAGES).labels
    with multiprocessing.get_context(sys.argv[1]).Pool(2, limit, (predictor,)) as pool:
        try:
            limit(predictor)
            np.ones(BLOCKS * REPEATED * len(IMAGES) * 784, np.uint8)
            sys.exit("all rows at once would have fitted")
        except MemoryError:
            pass
        for block, (labels, confidence) in enumerate(pool.imap(work, range(BLOCKS))):
            assert (labels == np.repeat(np.roll(expected, block), REPEATED)).all()
            assert 0 < confidence <= len(labels)
    print(BLOCKS * REPEATED * len(IMAGES))
"""


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_workers_share_out_more_rows_than_memory_holds(start: str, tmp_path: Path) -> None:
    """The predictor goes to each worker once, pickled (spawn) or by fork; no process may have all rows."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(script), start], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1200000\n"), done.stderr


def test_a_hundred_thousand_calls_leave_nothing() -> None:
    """Nothing that Python allocates stays, and the process does not grow: 2 MB is noise of its allocators."""
    script = f"""{OPEN}
import gc, json
def memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
def work(calls):
    for at in range(calls): predictor.classify(images[at % 20])
work(1000)
gc.collect()
before = sys.getallocatedblocks(), memory()
work(100_000)
gc.collect()
print(json.dumps([sys.getallocatedblocks() - before[0], memory() - before[1]]))
"""
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    blocks, kilobytes = json.loads(done.stdout)
    assert blocks < 20
    assert kilobytes < 2000


def test_batches_of_any_size_do_not_make_it_grow() -> None:
    script = f"""{OPEN}
rows = np.repeat(images, 100, axis=0)
def memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
def work(first, last):
    for at in range(first, last): predictor.predict_batch(rows[: at * 7919 % 2000 + 1])
work(0, 200)
before = memory()
work(200, 3000)
print(memory() - before)
"""
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8000  # kB; 60,000 with the memory pattern of each size


def test_a_loaded_predictor_takes_no_cpu_time() -> None:
    """The quietest of three seconds: whatever spins or polls does so in each of them."""
    script = f"""{OPEN}
import time
def second():
    before = time.process_time()
    time.sleep(1)
    return time.process_time() - before
print(min(second() for _ in range(3)))
"""
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.0025


def test_opening_it_imports_neither_ctypes_nor_openssl() -> None:
    """What they cost a start stands in `toolkit.predictor`."""
    script = f"""
import sys, numpy, onnxruntime
before = set(sys.modules)
from toolkit.predictor import Predictor
Predictor({str(REFERENCE)!r}).classify(numpy.zeros((28, 28), numpy.uint8))
print(sorted(name for name in set(sys.modules) - before if not name.startswith("toolkit") and name != "_json"))
"""
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.replace("'", '"'))) <= {"_sha256", "_sha2", "atexit"}
