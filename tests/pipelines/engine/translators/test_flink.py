"""What a Flink says of itself, and what of it stops a job before it is sent."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlmill.pipelines.engine.cluster_address import ClusterAddress
from controlmill.pipelines.engine.messages import Engine
from controlmill.pipelines.engine.process import JobProcess
from controlmill.pipelines.engine.translators import preparation
from controlmill.pipelines.engine.translators.flink import RESTART, FlinkTranslator
from controlmill.pipelines.engine.translators.preparation import prepare
from controlmill.pipelines.engine.translators.translator import ClusterFacts
from controlmill.schemas.errors import MillError
from tests.pipelines.engine.translators.pages import serving

OVERVIEW = {"taskmanagers": 2, "slots-total": 6, "slots-available": 5, "flink-version": "1.19.3"}
MANAGERS = [{"id": "a", "slotsNumber": 4}, {"id": "b", "slotsNumber": 2}]
RESTARTS = {"restart-strategy.type": "fixed-delay"}
Say = Callable[..., Engine]


def pages_of(
    overview: Mapping[str, Any], managers: list[dict[str, Any]], settings: Mapping[str, str]
) -> dict[str, str]:
    config = [{"key": key, "value": value} for key, value in {"rest.port": "8081", **settings}.items()]
    pages = {"/overview": overview, "/taskmanagers": {"taskmanagers": managers}, "/jobmanager/config": config}
    return {path: json.dumps(page) for path, page in pages.items()}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[dict[str, str], ClusterAddress]]:
    pages: dict[str, str] = {}
    with serving(pages) as url:
        yield pages, ClusterAddress("flink", "127.0.0.1", int(url.rpartition(":")[2]))


@pytest.fixture
def say(served: tuple[dict[str, str], ClusterAddress], tmp_path: Path) -> Say:
    """Have the cluster say things; the engine that is at its address, with a job server for Flink 1.19."""
    jar = tmp_path / "beam-runners-flink-1.19-job-server-2.62.0.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr(".flink-runtime.version.properties", "project.version=1.19.0\n")

    def become(
        managers: list[dict[str, Any]] = MANAGERS,
        settings: Mapping[str, str] = RESTARTS,
        options: tuple[str, ...] = (),
        **overview: Any,
    ) -> Engine:
        served[0].update(pages_of({**OVERVIEW, **overview}, managers, settings))
        return Engine(cluster=served[1], job_server_jar=str(jar), options=options)

    return become


def refused(engine: Engine) -> str:
    with pytest.raises(MillError) as found:
        prepare(engine)
    return str(found.value)


def test_a_cluster_that_is_able_is_prepared(say: Say) -> None:
    engine = say()
    assert engine.cluster
    prepared = prepare(engine)
    assert prepared.facts == ClusterFacts("1.19.3", workers=2, slots_per_worker=4, free_slots=5)
    assert prepared.words == (f"--flink-master=127.0.0.1:{engine.cluster.port}",)
    assert FlinkTranslator(engine.cluster).options(prepared.facts) == ("parallelism=5", "sdk_worker_parallelism=4")


def test_before_anything_is_listed_a_user_is_told(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    engine = say(settings={})
    JobProcess(engine)
    assert f"note: {RESTART}" in capsys.readouterr().err
    with pytest.raises(MillError, match="cannot be reached: nothing listens there"):
        JobProcess(replace(engine, cluster=ClusterAddress("flink", "127.0.0.1", 1)))


@pytest.mark.parametrize("settings", [{}, {"restart-strategy": "none"}, {"restart-strategy.type": "off"}])
def test_without_a_restart_strategy_a_user_is_warned(say: Say, settings: Mapping[str, str]) -> None:
    assert prepare(say(settings=settings)).facts.problems == (RESTART,)
    assert not prepare(say(settings={"restart-strategy": "exponential-delay"})).facts.problems


def test_a_job_without_a_slot_is_not_sent(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "SETTLE_SECONDS", 0)
    assert "has no workers: start some" in refused(say([], taskmanagers=0, **{"slots-available": 0}))
    starting = say([{"id": "a", "slotsNumber": 0}], **{"slots-available": 0})
    assert "1 of 1 workers of Flink at flink://" in refused(starting)
    message = refused(say(**{"slots-available": 0}))
    assert "has 0 free slots on 2 workers with 4 each, and another job has them: wait" in message
    message = refused(say(options=("parallelism=2", "--parallelism=8")))
    assert "has 5 free slots on 2 workers with 4 each, and parallelism=8 asks for more" in message
    prepare(say(options=("parallelism=5",)))


def test_slots_of_a_job_that_has_just_ended_are_waited_for(say: Say) -> None:
    timer = threading.Timer(0.3, say)
    engine = say(**{"slots-available": 0})
    timer.start()
    assert prepare(engine, slots=5).facts.free_slots == 5
    timer.join()


def test_a_worker_that_has_just_come_is_used_too(say: Say) -> None:
    timer = threading.Timer(0.3, say)
    engine = say([{"id": "a", "slotsNumber": 4}, {"id": "b", "slotsNumber": 0}], **{"slots-available": 4})
    timer.start()
    assert prepare(engine).facts.free_slots == 5
    timer.join()


def test_a_cluster_that_starts_its_own_workers_needs_no_free_slot(say: Say) -> None:
    none = {"taskmanagers": 0, "slots-available": 0}
    elastic = {"execution.target": "kubernetes-session"}
    assert prepare(say([], elastic, **none)).facts.slots_per_worker == 1
    assert prepare(say([], {**elastic, "taskmanager.numberOfTaskSlots": "8"}, **none)).facts.slots_per_worker == 8


def test_a_job_server_of_another_minor_version_is_not_started(say: Say) -> None:
    message = refused(say(**{"flink-version": "1.20.5"}))
    assert "is for Flink 1.19, and flink://127.0.0.1:" in message
    assert "is Flink 1.20.5: it takes org.apache.beam:beam-runners-flink-1.20-job-server:2." in message
    message = refused(replace(say(**{"flink-version": "2.0.1"}), job_server_jar=""))
    assert "has none named beam-runners-flink-2.0-job-server-*.jar" in message


def test_what_is_no_flink_is_named(say: Say, served: tuple[dict[str, str], ClusterAddress]) -> None:
    engine = say()
    served[0]["/overview"] = '{"status": "ALIVE"}'
    assert "is not a Flink JobManager as ControlMill knows it (KeyError('flink-version'))" in refused(engine)
    served[0]["/overview"] = '{"errors": ["Service temporarily unavailable due to an ongoing leader election."]}'
    assert "or one that has just started: {'errors': ['Service temporarily unavailable" in refused(engine)
