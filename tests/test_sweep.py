"""The sweep: what is tried, what is stopped, and what several processes make of one study."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.fake_training import PLAIN, accuracy_of, fake_train, listener, no_images, run, settings
from toolkit.errors import CorruptArtifactError, MissingError, StorageError, UsageError
from toolkit.sweeping import liveness
from toolkit.sweeping.sweep import _own, sweep

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.sweeping.report import SweepReport
    from toolkit.training.history import Epoch


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("toolkit.training.fit.train", fake_train)
    return monkeypatch


def tried(report: SweepReport) -> list[dict[str, str]]:
    return [row.settings for row in sorted(report.trials, key=lambda row: row.number) if row.counted]


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_the_same_seed_tries_the_same_and_the_best_is_first(tmp_path: Path) -> None:
    first, again, other = (
        run(settings(tmp_path / name, seed=seed, trials=12)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert tried(first) == tried(again)
    assert tried(first) != tried(other)
    assert first.counted == 12
    assert len({tuple(one.items()) for one in tried(first)}) == 12
    finished = [row.validation_accuracy for row in first.trials if row.outcome == "finished"]
    assert finished == sorted(finished, reverse=True)  # type: ignore[type-var]  # none is None
    assert first.best is not None
    assert first.best.validation_accuracy == accuracy_of(first.recipe_of(first.best)) == max(finished)  # type: ignore[type-var]  # the same


@pytest.mark.usefixtures("fake")
def test_the_recipe_itself_comes_first_if_it_may_be_tried(tmp_path: Path) -> None:
    report = run(settings(tmp_path / "a", trials=2))
    assert [row.number for row in report.trials if row.own] == [0]
    assert tried(report)[0] == {"learning_rate": "0.01", "dropout": "0.0", "hidden": "16"}
    fixed = run(settings(tmp_path / "b", "hidden=8|16", "epochs=2", "teacher=none|default", "flip=true", trials=1))
    assert tried(fixed) == [{"hidden": "16", "epochs": "2", "teacher": "none", "flip": "true"}]
    assert _own(settings(tmp_path, "teacher.epochs=1..4")) is None
    for name, space in (("c", "learning_rate=0.02..0.1"), ("d", "hidden=8|4")):
        assert not any(row.own for row in run(settings(tmp_path / name, space, trials=1)).trials)


@pytest.mark.usefixtures("fake")
def test_trials_that_fall_behind_are_stopped(tmp_path: Path) -> None:
    report = run(settings(tmp_path, trials=25))
    stopped = [row for row in report.trials if row.outcome == "pruned"]
    assert len(stopped) >= 5
    assert min(row.number for row in stopped) >= 5
    best = report.trials[0]
    for row in stopped:
        assert row.validation_accuracy is None
        assert 2 <= row.epochs_run < PLAIN.epochs  # never in the first quarter
        assert list(row.accuracies) == list(range(1, row.epochs_run + 1))
        assert row.accuracies[row.epochs_run] < best.accuracies[row.epochs_run]
        assert "below the median" in (row.reason or "")
    assert report.importances is not None
    assert set(report.importances) == {"learning_rate", "dropout", "hidden"}
    assert sum(report.importances.values()) == pytest.approx(1)


@pytest.mark.usefixtures("fake")
def test_trainings_of_different_length_are_compared_at_the_same_share_of_them(tmp_path: Path) -> None:
    report = run(settings(tmp_path, "epochs=5..60", "learning_rate=log:0.001..0.1", trials=8))
    for row in report.trials:
        assert max(row.accuracies) <= 20
        if row.outcome == "finished":
            assert max(row.accuracies) == 20
            assert row.epochs_run == int(row.settings["epochs"])


@pytest.mark.usefixtures("fake")
def test_every_combination_is_tried_once(tmp_path: Path) -> None:
    lines: list[str] = []
    report = run(settings(tmp_path, "hidden=16|8|4", "batch_norm=true|false", "epochs=2", trials=30), lines)
    assert len({tuple(one.items()) for one in tried(report)}) == report.counted == 6
    assert "all 6 combinations were tried" in lines


@pytest.mark.usefixtures("fake")
def test_settings_that_make_no_sense_together_are_left_out_with_the_reason(tmp_path: Path) -> None:
    report = run(settings(tmp_path, "optimizer=sgd|adam", "momentum=0.9", "learning_rate=log:0.001..0.1"))
    outcomes = {row.outcome: row for row in report.trials}
    assert set(outcomes) == {"finished", "invalid"}
    assert outcomes["invalid"].settings["optimizer"] == "adam"
    assert outcomes["invalid"].reason == "momentum is 0.9, expected 0: only sgd takes one"
    assert all(row.settings["optimizer"] == "sgd" for row in report.trials if row.outcome == "finished")


@pytest.mark.usefixtures("fake")
def test_where_nothing_makes_sense_it_says_so_and_stops(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of the first 5 trials could be trained.*only sgd.*--search"):
        run(settings(tmp_path, "optimizer=adam", "momentum=0.5..0.9"))


@pytest.mark.usefixtures("fake")
def test_a_diverging_trial_is_recorded_and_others_go_on(tmp_path: Path) -> None:
    report = run(settings(tmp_path, "learning_rate=100.0|0.01|0.001"))
    assert [row.outcome for row in report.trials] == ["finished", "finished", "diverged"]
    assert "lower the learning rate" in (report.trials[-1].reason or "")
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.usefixtures("fake")
def test_a_study_goes_on_with_the_same_settings_and_no_others(tmp_path: Path) -> None:
    begun = settings(tmp_path, trials=3)
    run(begun)
    assert run(dataclasses.replace(begun, trials=5)).counted == 5
    assert run(dataclasses.replace(begun, trials=2)).counted == 5
    for changed, says in (
        (dataclasses.replace(begun, seed=2), "begun with seed 1, and this asks for 2"),
        (
            dataclasses.replace(begun, recipe=PLAIN.override(l2=0.1)),
            r"begun with recipe\.l2 0\.0, and this asks for 0\.1",
        ),
        (settings(tmp_path, "dropout=0..0.5"), r"search\.learning_rate 'log:1e-06\.\.1', and this asks for 'nothing'"),
        (settings(tmp_path, "learning_rate=0..1", "dropout=0..0.5", "hidden=16|8,8"), "asks for '0..1'; give the same"),
    ):
        with pytest.raises(UsageError, match=says):
            run(changed)
        assert run(dataclasses.replace(changed, name=says, trials=1)).counted == 1
    assert run(begun).counted == 5


def test_another_study_is_not_taken_over(tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path / 'study.db'}"
    other = optuna.create_study(storage=url, study_name="sweep")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(UsageError, match="not toolkit sweep's; give another --name"):
        run(settings(tmp_path, storage=url))


@pytest.mark.usefixtures("fake")
@pytest.mark.slow
def test_a_database_holds_a_study_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    run(settings(tmp_path, storage=url, trials=4))
    joined = run(settings(tmp_path, storage=url, trials=8))
    assert tried(joined) == tried(run(settings(tmp_path, trials=8)))
    for wrong, kind, says in (
        ("nosuch://host/name", UsageError, "expected a file or a database URL"),
        (f"sqlite:///{tmp_path}/none/study.db", StorageError, "cannot be used"),
        ("postgresql://me:secret@localhost/study", MissingError, "driver that is not installed"),
    ):
        with pytest.raises(kind, match=says) as caught:
            run(settings(tmp_path, storage=wrong))
        assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("fake")
def test_a_damaged_journal_is_refused_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    whole = run(settings(tmp_path, trials=4))
    text = journal.read_bytes()
    journal.write_bytes(text + b'{"op_code": 4, "wor')
    assert tried(run(settings(tmp_path, trials=4))) == tried(whole)
    assert journal.read_bytes().startswith(text + b'{"op_code":0,')
    lines = text.splitlines(keepends=True)
    for damaged in (b"".join([*lines[:9], lines[9][:5], *lines[9:]]), b"my notes", b"my notes\nmore\n", b'{"a": 1}\n'):
        journal.write_bytes(damaged)
        with pytest.raises(CorruptArtifactError, match="no whole journal of a study"):
            run(settings(tmp_path, trials=4))
        assert journal.read_bytes() == damaged
    with pytest.raises(UsageError, match="is a folder"):
        run(settings(tmp_path, storage=str(tmp_path)))


def process(storage: Path, trials: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fake_training", str(storage), str(trials), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("fake")
def test_two_processes_share_the_trials_of_one_study(tmp_path: Path) -> None:
    both = [process(tmp_path / "study.journal", 12, 0.05) for _ in range(2)]
    outs = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert all(out.count("ended") >= 2 for out in outs)
    report = run(settings(tmp_path, trials=12))
    assert report.counted == 12
    assert {row.outcome for row in report.trials} <= {"finished", "pruned"}
    assert len({tuple(one.items()) for one in tried(report)}) == 12  # none twice


@pytest.mark.usefixtures("fake")
@pytest.mark.slow
def test_a_killed_sweep_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = run(settings(tmp_path / "whole", trials=12))
    killed = process(tmp_path / "study.journal", 12, 0.1)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line == "trial 3 epoch 2\n":
            break
    killed.kill()
    killed.communicate()
    lines: list[str] = []
    report = run(settings(tmp_path, trials=12), lines)
    assert "trial 3 was not finished: its process ended; its settings are tried again" in lines
    assert [(row.number, row.outcome) for row in report.trials if not row.counted] == [(3, "died")]
    assert tried(report) == tried(whole)


@pytest.mark.usefixtures("fake")
def test_settings_that_end_the_process_are_tried_twice_and_no_more(tmp_path: Path) -> None:
    import optuna

    from toolkit.sweeping.study import replace_dead
    from toolkit.sweeping.trials import BEAT, PROCESS

    run(settings(tmp_path, trials=2))
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    lines: list[str] = []
    for _ in range(2):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-6, 1, log=True)
        trial.set_user_attr(PROCESS, {**liveness.this_process(), "start": "0"})
        trial.set_user_attr(BEAT, time.time())
        replace_dead(study, lines.append)
    assert [line.partition("its settings ")[2] for line in lines] == [
        "are tried again",
        "ended a process twice and are left out",
    ]
    report = run(settings(tmp_path, trials=4))
    assert (report.counted, len(report.trials)) == (4, 6)


def test_who_is_alive() -> None:
    me = liveness.this_process()
    now = time.time()
    assert liveness.is_alive(me, 0.0, now)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    other = {**me, "pid": child.pid, "start": liveness._start_of(child.pid)}
    assert liveness.is_alive(other, 0.0, now)
    assert not liveness.is_alive({**other, "start": "1"}, now, now)  # the number was given to another process
    child.kill()
    deadline = time.monotonic() + 10
    while liveness.is_alive(other, now, now):  # not waited for yet: a zombie is dead
        assert time.monotonic() < deadline
    child.stdin.close()
    child.wait()
    assert not liveness.is_alive(other, now, now)
    elsewhere = {**me, "machine": "another", "pid": 1}
    assert liveness.is_alive(elsewhere, now - 500, now)
    assert not liveness.is_alive(elsewhere, now - 700, now)


def test_signs_of_life_are_given_until_the_end() -> None:
    beats: list[float] = []
    with liveness.beating(beats.append, every=0.01):
        while len(beats) < 3:
            time.sleep(0.01)
    count = len(beats)
    time.sleep(0.05)
    assert len(beats) == count


@pytest.mark.usefixtures("fake")
def test_ctrl_c_gives_the_trial_back(tmp_path: Path) -> None:
    def pull(number: int, epoch: Epoch) -> None:
        if (number, epoch.number) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(settings(tmp_path), no_images(), dataclasses.replace(listener(), on_epoch=pull))
    report = run(settings(tmp_path, trials=5))
    (given_back,) = [row for row in report.trials if not row.counted]
    assert (given_back.number, given_back.outcome, given_back.epochs_run) == (2, "interrupted", 2)
    assert tried(report) == tried(run(settings(tmp_path / "whole", trials=5)))


@pytest.mark.usefixtures("fake")
def test_no_trial_is_begun_after_the_timeout(tmp_path: Path) -> None:
    assert run(settings(tmp_path, timeout=0.0)).trials == []
