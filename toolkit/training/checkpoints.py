"""Checkpoints of a fit after every epoch: Keras' own backup, and beside it the state that it leaves out."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.keras_model import import_keras

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from toolkit.training.run_folder import RunFolder

__all__ = ["Done", "checkpoint_callback", "done_so_far"]

NAME = "epoch"
_STATE, _ARRAYS = "state.json", "state.npz"
_KERAS = ("latest.weights.h5", "training_metadata.json")  # what BackupAndRestore writes and reads


@dataclass(frozen=True)
class Done:
    """What a run's checkpoint has behind it.

    Attributes:
        folder: its files; None if there is no checkpoint.
        epochs: how many were run.
        seconds: how long training took up to there.
        stopped: training stopped early there; nothing is left to run.
    """

    folder: Path | None = None
    epochs: int = 0
    seconds: float = 0.0
    stopped: bool = False


def done_so_far(run: RunFolder | None) -> Done:
    """How far a run got.

    Raises:
        CorruptArtifactError: the checkpoint is damaged.
    """
    folder = run.find(NAME) if run else None
    if folder is None:
        return Done()
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return Done(folder, state["epochs"], state["seconds"], state["stopped"])


def checkpoint_callback(run: RunFolder, history: Path, stopper: Any, seconds: Callable[[], float]) -> Any:
    """A Keras callback that backs up the fit after every epoch, and at its begin restores what the run folder has.

    It is Keras' BackupAndRestore (weights, optimizer, epoch) with what that leaves out, see `_State`. It comes after
    the callbacks whose state it keeps.

    Args:
        run: where checkpoints go, and may be found.
        history: the CSV file of the epochs so far.
        stopper: Keras' EarlyStopping, or None.
        seconds: gives the time that training took so far.
    """
    working = run.path / "working"
    shutil.rmtree(working, ignore_errors=True)
    state = _State(history, stopper, seconds)
    backup: Any = import_keras().callbacks.BackupAndRestore

    class Checkpoint(backup):  # type: ignore[misc]  # Keras has no types
        def on_train_begin(self, logs: Any = None) -> None:
            folder = run.find(NAME)
            if folder is not None:
                working.mkdir()
                for name in _KERAS:
                    shutil.copyfile(folder / name, working / name)
            super().on_train_begin(logs)
            if folder is not None:
                state.restore(self.model, folder)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if not math.isfinite(logs["loss"]):
                return
            with run.writing():
                super().on_epoch_end(epoch, logs)
            run.commit(NAME, lambda staging: state.save(self.model, working, staging, epoch + 1))

    return Checkpoint(str(working), delete_checkpoint=False)


@dataclass(frozen=True)
class _State:
    """What Keras' backup leaves out: dropout's random generators, early stopping's memory, history, and the clock."""

    history: Path
    stopper: Any
    seconds: Callable[[], float]

    def save(self, model: Any, working: Path, staging: Path, epochs: int) -> None:
        """Fill a checkpoint's folder, with what Keras wrote into the working one too."""
        for path in (*(working / name for name in _KERAS), self.history):
            shutil.copyfile(path, staging / path.name)
        state: dict[str, Any] = {
            "epochs": epochs,
            "seconds": self.seconds(),
            "stopped": bool(model.stop_training),
        }
        arrays = {f"generator_{at}": np.asarray(one.state) for at, one in enumerate(_generators(model))}
        if self.stopper is not None:
            state["stopper"] = {
                "wait": self.stopper.wait,
                "best": float(self.stopper.best),
                "best_epoch": self.stopper.best_epoch,
            }
            arrays |= {f"best_{at}": value for at, value in enumerate(self.stopper.best_weights)}
        (staging / _STATE).write_text(json.dumps(state), encoding="utf-8")
        np.savez(staging / _ARRAYS, **arrays)  # type: ignore[arg-type]  # its stub takes any array for allow_pickle

    def restore(self, model: Any, folder: Path) -> None:
        """Put model and early stopping into the state of a checkpoint."""
        with np.load(folder / _ARRAYS) as arrays:
            for at, generator in enumerate(_generators(model)):
                generator.state.assign(arrays[f"generator_{at}"])
            if self.stopper is not None:
                state = json.loads((folder / _STATE).read_text(encoding="utf-8"))["stopper"]
                self.stopper.wait, self.stopper.best = state["wait"], state["best"]
                self.stopper.best_epoch = state["best_epoch"]
                best = sum(name.startswith("best_") for name in arrays)
                self.stopper.best_weights = [arrays[f"best_{at}"] for at in range(best)]


def _generators(model: Any) -> list[Any]:
    return [layer.seed_generator for layer in model.layers if getattr(layer, "seed_generator", None) is not None]
