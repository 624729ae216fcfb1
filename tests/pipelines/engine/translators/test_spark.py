"""What a Spark master's page tells, and what of it stops a job before it is sent."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from controlmill.pipelines.engine.cluster_address import parse_cluster
from controlmill.pipelines.engine.translators import spark
from controlmill.pipelines.engine.translators.spark import SparkTranslator
from controlmill.pipelines.engine.translators.translator import ClusterFacts, Translator
from controlmill.schemas.errors import MillError
from tests.pipelines.engine.translators.pages import serving

MASTER = parse_cluster("spark://host:7077")
WORKER = {"state": "ALIVE", "cores": 4, "coresfree": 4, "memoryfree": 4096}
STATE = {"url": "spark://10.0.0.1:7077", "status": "ALIVE", "workers": [WORKER, {**WORKER, "cores": 2, "coresfree": 1}]}
HEADING = '<a href="/"><img src="logo.png"/> <span class="version" style="margin-right: 15px;">3.5.9</span></a>'


class Master:
    """The pages of a master, and who asks them."""

    def __init__(self) -> None:
        self.pages = {"/": HEADING}
        self.become()

    def become(self, *workers: Mapping[str, Any], **state: Any) -> None:
        """Answer with another state."""
        self.pages["/json/"] = json.dumps({**STATE, **({"workers": workers} if workers else {}), **state})


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Master, str]]:
    master = Master()
    with serving(master.pages) as url:
        yield master, url


@pytest.fixture
def master(served: tuple[Master, str]) -> Master:
    served[0].become()
    served[0].pages["/"] = HEADING
    return served[0]


@pytest.fixture
def asked(served: tuple[Master, str]) -> Translator:
    return SparkTranslator(MASTER, served[1])


@pytest.mark.usefixtures("master")
@pytest.mark.parametrize("ending", ["", "/", "/json", "/json/"])
def test_the_page_tells_version_workers_and_cores(served: tuple[Master, str], ending: str) -> None:
    facts = SparkTranslator(MASTER, served[1].removeprefix("http://") + ending).facts()
    assert facts == ClusterFacts("3.5.9", workers=2, slots_per_worker=4, free_slots=5, queues=True)


@pytest.mark.usefixtures("master")
def test_every_core_gets_a_process(asked: Translator) -> None:
    facts = asked.facts()
    assert "sdk_worker_parallelism=4" in asked.options(facts)
    words = asked.job_server(Path("missing.jar"), facts)
    assert "--spark-master-url=spark://host:7077" in words
    assert "-Dspark.default.parallelism=32" in words  # four tasks for each of twice four cores


def test_the_usual_page_is_beside_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spark.PAGE_PORT == 8080
    monkeypatch.setattr(spark, "PAGE_PORT", 1)  # where nothing listens
    for address, page in (("spark://127.0.0.1:7077", "http://127.0.0.1:1/"), ("spark://[::1]:7", "http://[::1]:1/")):
        with pytest.raises(MillError, match="--cluster-page") as found:
            SparkTranslator(parse_cluster(address), seconds=0.5).facts()
        assert page in str(found.value)


def test_dead_workers_do_not_count(master: Master, asked: Translator) -> None:
    master.become(WORKER, {**WORKER, "state": "DEAD", "cores": 64})
    assert asked.facts() == ClusterFacts("3.5.9", workers=1, slots_per_worker=4, free_slots=4, queues=True)


def test_workers_that_take_nothing_are_told(master: Master, asked: Translator) -> None:
    master.become({**WORKER, "coresfree": 0}, activeapps=[{"name": "nightly"}])
    assert asked.facts().free_slots == 0
    assert asked.facts().problems == (
        "all cores of its workers are in use (running: nightly): the job waits until some are free",
    )
    master.become({**WORKER, "memoryfree": 500})
    [problem] = asked.facts().problems
    assert asked.facts().free_slots == 0
    assert problem.startswith("no worker has a free core and 1024 MB of memory")
    master.become(WORKER, {**WORKER, "memoryfree": 500})
    [problem] = asked.facts().problems
    assert asked.facts().free_slots == 4
    assert problem.startswith("1 of 2 workers have less than 1024 MB free")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"workers": []}, "has no workers: start some, e.g. with  sbin/start-worker.sh spark://host:7077"),
        ({"status": "STANDBY"}, "takes no jobs, it is STANDBY"),
        ({"url": "spark://host:7078"}, "is that of spark://host:7078, not of spark://host:7077"),
        ({"url": "flink"}, "is not the page of a Spark master"),
        ({"workers": 2}, "is not the page of a Spark master"),
        ({"workers": [{"state": "ALIVE", "cores": "4"}]}, "is not the page of a Spark master"),
    ],
)
def test_what_takes_no_jobs_is_refused(master: Master, asked: Translator, state: dict[str, Any], message: str) -> None:
    master.become(**state)
    with pytest.raises(MillError, match=message):
        asked.facts()


def test_a_spark_that_beam_does_not_know_is_refused(master: Master, asked: Translator) -> None:
    master.pages["/"] = HEADING.replace("3.5.9", "4.0.1")
    with pytest.raises(MillError, match=r"is Spark 4\.0\.1: Beam has a job server for Spark 3 alone"):
        asked.facts()


@pytest.mark.usefixtures("master")
@pytest.mark.parametrize(("held", "fits"), [("3.5.0", True), ("3.4.9", False), ("4.5.9", False)])
def test_a_job_server_of_another_minor_version_is_refused(
    asked: Translator, tmp_path: Path, held: str, fits: bool
) -> None:
    jar = tmp_path / "job-server.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("spark-version-info.properties", f"version={held}\n")
    if fits:
        assert asked.job_server(jar, asked.facts())
        return
    with pytest.raises(MillError, match=f"is for Spark {held[:3]}, and spark://host:7077 is Spark 3.5.9"):
        asked.job_server(jar, asked.facts())


def test_without_a_heading_the_version_is_not_known(master: Master, asked: Translator, tmp_path: Path) -> None:
    master.pages["/"] = "<html>"
    assert asked.facts().version == ""
    assert asked.job_server(tmp_path / "any.jar", asked.facts())
    assert asked.coordinates("").startswith("org.apache.beam:beam-runners-spark-3-job-server:")
    assert asked.jar_names("") == ("beam-runners-spark-3-job-server-*.jar",)
