"""The program that runs on the other CPU: models over arrays, with nothing but numpy and onnxruntime.

    python child.py JOB.json

It is copied beside the job together with ``predictor.py`` and imports nothing else of the toolkit. The job names the
folders to import from, one ``.npz`` with input arrays by name, and the runs; each run writes one ``.npz`` with answers
by name. Lines "done N" on standard output tell how many rows are done since the last.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TELL = 100  # rows


def main(path: str) -> None:
    """Do the runs of a job file."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes a while to import under emulation
        job = json.load(file)
    sys.path[:0] = job["import_from"]
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import numpy as np

    facts: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__}
    # Private, but numpy's only list of what it found; numpy.show_runtime prints it.
    facts["features"] = [name for name, found in np._core._multiarray_umath.__cpu_features__.items() if found]  # type: ignore[attr-defined]  # noqa: SLF001
    _write_facts(job["facts"], facts)  # already now: they explain a crash of what comes next
    import onnxruntime as ort

    _write_facts(job["facts"], {**facts, "onnxruntime": ort.__version__})
    inputs = load(job["inputs"])
    for run in job["runs"]:
        save(run["answers"], _run(run, inputs))


def save(path: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name; the names go into an array too, as not every name is one that numpy.savez can take."""
    import numpy as np

    np.savez(path, np.array(list(arrays)), *arrays.values())


def load(path: str) -> dict[str, Any]:
    """What `save` wrote."""
    import numpy as np

    with np.load(path) as stored:
        return {str(name): stored[f"arr_{number}"] for number, name in enumerate(stored["arr_0"], 1)}


def _write_facts(path: str, facts: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - see above
        json.dump(facts, file)


def _run(run: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    answer = _predictor(run) if run["through"] == "predictor" else _session(run)
    first, last, size = run["first"], run["last"], run["batch"]
    parts: list[dict[str, Any]] = []
    told = first
    for at in range(first, last, size):
        stop = min(at + size, last)
        parts.append(answer({name: array[at:stop] for name, array in inputs.items()}))
        if stop - told >= TELL or stop == last:
            print("done", stop - told, flush=True)  # noqa: T201 - this is how it tells
            told = stop
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _session(run: dict[str, Any]) -> Any:
    """Through the bare runtime, as the predictor would set it up; every output by its name."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(run["model"], options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda block: dict(zip(names, session.run(names, block), strict=True))


def _predictor(run: dict[str, Any]) -> Any:
    """Through the device's own predictor: in batches, or each row alone on its shortest path.

    Every output as "output/NAME"; "labels" and "probabilities" too where the file names its classes.
    """
    import numpy as np
    from predictor import Predictor  # type: ignore[import-not-found]  # the copy beside this file

    predictor = Predictor(run["model"])

    def batch(block: dict[str, Any]) -> dict[str, Any]:
        answers = predictor.predict_batch(block)
        found = {f"output/{name}": array for name, array in answers.outputs.items()}
        if answers.labels is not None:
            found |= {"labels": answers.labels, "probabilities": answers.probabilities}
        return found

    def alone(block: dict[str, Any]) -> dict[str, Any]:
        row = {name: array[0, ...] for name, array in block.items()}
        if len(row) == 1:  # an array by itself takes the shortest path
            (row,) = row.values()
        answer = predictor.predict(row)
        found = {f"output/{name}": array[None] for name, array in answer.outputs.items()}
        if answer.label is not None:
            label = answer.label if predictor.classes is None else predictor.classify(row)
            found |= {"labels": np.array([label]), "probabilities": answer.probabilities[None]}
        return found

    return alone if run["batch"] == 1 else batch


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # noqa: BLE001 - one line for the parent, whatever it was
        sys.exit(f"error: {type(error).__name__}: {' '.join(str(error).split())}")
