"""A job that nobody works on is told after half a minute, and does not wait for ever."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from controlmill.pipelines import ingestion
from controlmill.pipelines.engine import watch
from controlmill.pipelines.engine.cluster_address import parse_cluster
from controlmill.pipelines.engine.messages import Engine, Waits
from controlmill.pipelines.engine.process import Resources
from controlmill.pipelines.engine.silence import LOOKS
from controlmill.pipelines.engine.watch import NothingMoves, Watch
from controlmill.schemas.errors import MillError
from tests.helpers import SMALL, write_photos

FLINK = Engine(cluster=parse_cluster("flink://node-1"))


class Job:
    """A job that is watched, with a clock that tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine = FLINK, local: bool = True):
        self.now, self.said, self.lost = 0.0, list[str](), ""
        self.commits, self.attempts = 0, dict[int, dict[str, object]]()
        monkeypatch.setattr(watch, "gone", lambda _: self.lost)
        self.watch = Watch(engine, local, self.said.append, lambda: self.now)
        self.go_on(0)

    def go_on(self, seconds: float) -> None:
        """So many seconds go by in which nothing moves."""
        looks = max(LOOKS + 1, round(seconds))
        for _ in range(looks):
            self.now += seconds / looks
            self.watch.look(self.commits, {shard: dict(said) for shard, said in self.attempts.items()})

    def note(self) -> None:
        """A worker does something at shard 3."""
        self.attempts = {3: {"worker": "process 7 on node-2", "note": self.now}}


def test_that_no_worker_has_begun_is_said_once_with_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch)
    job.go_on(29)
    assert not job.said
    job.go_on(2)
    assert job.said == [
        "the cluster at flink://node-1:8081: no worker has begun a shard after 30 s: has it free task slots, and can "
        "its TaskManagers start controlmill-worker? http://node-1:8081 shows them"
    ]
    for _ in range(5):
        job.go_on(20)
    assert len(job.said) == 1
    job.note()
    job.go_on(20)
    assert len(job.said) == 1


def test_workers_that_live_are_left_alone_however_long_a_row_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch)
    for _ in range(50):
        job.note()
        job.go_on(25)
    assert not job.said


def test_workers_that_give_no_sign_are_named_and_the_job_goes_on_when_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch)
    job.note()
    job.go_on(62)
    (said,) = job.said
    assert "no worker has given a sign for" in said
    assert "shard 3 by process 7 on node-2" in said
    job.commits += 1
    job.go_on(50)
    job.note()
    job.go_on(62)
    assert len(job.said) == 2


def test_a_cluster_that_cannot_be_reached_while_nothing_moves_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch)
    job.note()
    job.go_on(55)
    job.lost = "\nFlink's JobManager at node-1:8081 cannot be reached: nothing listens there"
    job.go_on(4)  # the workers may be at it
    with pytest.raises(NothingMoves, match=r"(?s)no worker has given a sign .*JobManager at node-1:8081 cannot be"):
        job.go_on(5)


def test_a_job_waits_no_longer_than_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch)
    with pytest.raises(NothingMoves, match=r"no worker has begun a shard after 6\d\d s.*\nThe job waited as long as"):
        for _ in range(100):
            job.go_on(10)
    assert 600 <= job.now < 700
    hasty = Job(monkeypatch, Engine("SomeRunner", waits=Waits(give_up=70)))  # no multiple of what it is looked after
    hasty.note()
    with pytest.raises(NothingMoves, match="no worker has given a sign for 7"):
        hasty.go_on(200)
    patient = Job(monkeypatch, Engine("SomeRunner", waits=Waits(give_up=0)))
    for _ in range(100):
        patient.go_on(100)
    assert len(patient.said) == 1


def test_on_a_store_where_attempts_note_seldom_silence_lasts_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch, local=False)
    job.note()
    job.go_on(100)
    assert not job.said
    job.go_on(40)
    assert job.said


IDLE = """
import time
from apache_beam.runners.runner import PipelineRunner
class Idle(PipelineRunner):
    def run_pipeline(self, pipeline, options):
        time.sleep(600)
"""


def test_an_engine_without_a_worker_is_told_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "idle.py").write_text(IDLE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    engine = Engine("idle.Idle", waits=Waits(first_shard=1, silence=2, give_up=3))
    photos = write_photos(tmp_path / "photos", 1)
    began = time.monotonic()
    with Resources(engine) as resources, pytest.raises(MillError) as raised:
        ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, resources)
    assert str(raised.value).startswith("idle.Idle: no worker has begun a shard after")
    assert str(raised.value).endswith("run the same command again to go on.")
    assert "no worker has begun a shard" in capsys.readouterr().err
    assert time.monotonic() - began < 60
    assert not (tmp_path / "dataset/_run").exists()
