"""Workers whose command is gone stop, and nothing makes a run's folder again; a command that lives is seen to live."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import planning
from controlmill.pipelines.engine import attempts, owners, run_folder, shards
from controlmill.pipelines.engine.console import run_stage
from controlmill.pipelines.engine.owners import also_made, require_alone, sweep
from controlmill.pipelines.engine.process import JobProcess, Resources
from controlmill.pipelines.engine.run_folder import Run, ShardFailure, Stopped
from controlmill.pipelines.engine.shards import Job, run_shard
from controlmill.pipelines.engine.silence import LOOKS, Silence
from controlmill.pipelines.engine.stage import Stage
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Gone, MillError
from controlmill.schemas.files.local_storage import LocalStorage


@pytest.fixture
def images(dataset: Dataset, tmp_path: Path) -> Dataset:
    """A copy whose edges are not made yet."""
    shutil.copytree(dataset, tmp_path / "dataset")
    shutil.rmtree(tmp_path / "dataset/canny")
    (tmp_path / "dataset/_tables/canny.json").unlink()
    return Dataset.open(tmp_path / "dataset")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run_folder.STOP_SECONDS, True, 0.0)
    monkeypatch.setitem(owners.SIGN_SECONDS, True, 0.02)
    monkeypatch.setitem(owners.GONE_SECONDS, True, 0.5)


def stage_of(images: Dataset) -> Stage:
    (stage,) = planning.plan_conditions(parse_conditions("canny"), planning.everywhere(Placement()), None)
    return stage


def job_of(images: Dataset, run: Run) -> Job:
    stage = stage_of(images)
    return Job(images.storage, run.id, stage, stage.outputs(), 1)


def run_folders(images: Dataset) -> list[str]:
    return images.storage.folders("_run")


def test_a_shard_of_a_run_that_is_over_is_not_done(images: Dataset) -> None:
    run = Run.start(images.storage)
    run.end()
    assert run_shard(job_of(images, run), 0)["status"] == "stopped"
    assert not images.has("canny", 0)
    assert not Path(images.storage.path("_run")).exists()


def test_a_run_that_ends_under_a_worker_stops_it_and_is_not_made_again(
    images: Dataset, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.start(images.storage)
    seen: list[object] = []

    def ending(*words: object) -> Iterator[object]:
        for outcome in run_rows(*words):  # type: ignore[arg-type]
            seen.append(outcome)
            run.end()
            yield outcome

    run_rows = shards.run_rows
    monkeypatch.setattr(shards, "run_rows", ending)
    assert run_shard(job_of(images, run), 0)["status"] != "done"
    assert len(seen) == 1
    assert not Path(images.storage.path("_run")).exists()


def test_nothing_is_written_for_a_run_that_is_over(images: Dataset) -> None:
    run = Run.start(images.storage)
    attempt = run.begin(0)
    shutil.rmtree(images.storage.path(f"_run/{run.id}"))
    with pytest.raises(Stopped):
        run.begin(1)
    with pytest.raises(Stopped):
        run.fail(0, "an error")
    with pytest.raises(Gone, match="is over"), images.storage.scratch(run.id):
        pass
    run.stop("no more")
    with attempt:
        attempt.end()
    with run.giving_signs():
        pass
    assert run_folders(images) == []


def test_a_run_ends_where_the_dataset_has_lost_its_description(images: Dataset) -> None:
    run = Run.start(images.storage)
    Path(images.storage.path("dataset.json")).unlink()
    run.end()
    assert not Path(images.storage.path("_run")).exists()


def test_signs_of_life_keep_workers_at_it(images: Dataset, quick: None) -> None:
    run = Run.start(images.storage)
    worker = Run(images.storage, run.id)
    with run.giving_signs():
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            worker.check()
            time.sleep(0.02)


def test_without_a_sign_of_life_workers_stop_and_say_so(images: Dataset, quick: None) -> None:
    run = Run.start(images.storage)
    with run.giving_signs():
        worker, other = Run(images.storage, run.id), Run(images.storage, run.id)
        worker.check()
    began = time.monotonic()
    with pytest.raises(Stopped):
        while time.monotonic() < began + 20:
            worker.check()
            time.sleep(0.02)
    assert time.monotonic() - began >= owners.GONE_SECONDS[True]
    assert "gave no sign of life for 0.5 s" in str(run.stopped())  # what a command that was suspended tells
    with pytest.raises(Stopped, match="gave no sign"):
        other.check()


def test_a_run_whose_workers_end_with_it_needs_no_signs(images: Dataset, quick: None) -> None:
    worker = Run(images.storage, Run.start(images.storage).id)
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        worker.check()
        time.sleep(0.02)


def test_a_process_that_was_held_up_itself_waits_for_some_looks() -> None:
    silence = Silence()
    assert silence.seconds(1, now=0.0) == 0.0
    looks = [silence.seconds(1, now=1000.0 + look) for look in range(LOOKS)]
    assert looks == [0.0] * (LOOKS - 1) + [1000.0 + LOOKS - 1]
    assert silence.seconds(2, now=2000.0) == 0.0


def test_the_mark_of_an_attempt_says_who_and_lives_while_a_row_takes_long(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attempts.NOTE_SECONDS, True, 0.02)
    run = Run.start(images.storage)
    with run.begin(3) as attempt:
        first = run.attempts()[3]
        assert socket.gethostname() in first["worker"]
        time.sleep(0.2)
        assert run.attempts()[3]["note"] > first["note"]
        attempt.end()
    assert run.attempts() == {}


def test_what_was_found_on_another_machine_says_on_which(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.start(images.storage)
    run.fail(0, "an error here")
    with monkeypatch.context() as there:
        there.setattr(run_folder.socket, "gethostname", lambda: "node-7")
        run.fail(1, "an error there")
        run.stop("the disk is full")
    assert [str(failure) for failure in run.failures()] == [
        "shard 0: an error here",
        "shard 1 on node-7: an error there",
    ]
    assert run.stopped() == "on node-7: the disk is full"
    assert ShardFailure(2, "x").host == ""


def test_what_is_left_of_a_run_that_was_being_removed_is_swept(images: Dataset) -> None:
    left = Path(images.storage.path("_run/.old-1234"))
    left.mkdir(parents=True)
    (left / "owner.json").write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    sweep(images.storage)
    assert not left.parent.exists()


def other_machine(images: Dataset, sign: int) -> Path:
    """A run of a machine that cannot be looked at."""
    there = Path(images.storage.path("_run/there"))
    there.mkdir(parents=True)
    owner = {"host": "node-7", "pid": 12, "sign": sign, "makes": ["canny", "hed"]}
    (there / "owner.json").write_text(json.dumps(owner))
    return there


def test_a_run_of_another_machine_is_waited_for_while_it_gives_signs(images: Dataset, quick: None) -> None:
    there = other_machine(images, sign=0)
    with pytest.raises(MillError, match=r"another job works on .* \(process 12 on node-7\): wait for it"):
        require_alone(images.storage)
    shutil.rmtree(there)
    there = other_machine(images, sign=9)
    sweep(images.storage)
    assert there.exists()
    require_alone(images.storage)  # it gave none
    assert not there.exists()


def test_a_second_command_that_makes_the_same_table_is_told(
    images: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other_machine(images, sign=0)
    assert also_made(images.storage, ("normals",)) == []
    monkeypatch.setattr(JobProcess, "run", lambda *_: 0)
    with pytest.raises(MillError, match="ended without an error"):
        run_stage(images, stage_of(images), Resources(), [4] * images.shards)
    said = " ".join(capsys.readouterr().err.split())
    assert "another command makes canny (by process 12 on node-7) of this dataset too" in said


def test_a_full_disk_of_one_machine_stops_all_and_is_said_of_that_machine(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = Run.start(images.storage)
    with monkeypatch.context() as there:
        there.setattr(run_folder.socket, "gethostname", lambda: "node-7")
        there.setattr(LocalStorage, "commit", full)
        assert run_shard(job_of(images, run), 0)["status"] == "failed"
    assert (run.stopped() or "").startswith("on node-7: the disk is full")
    with pytest.raises(Stopped):
        Run(images.storage, run.id).check()
