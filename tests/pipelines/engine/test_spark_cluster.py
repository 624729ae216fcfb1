"""A real Spark: the bytes of any other engine, also where a part of it dies; what a user is told of a worker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers import command, digests, write_photos
from tests.pipelines.engine.engines import worker_on_path
from tests.pipelines.engine.spark_cluster import SparkCluster, spark_job_server

pytestmark = pytest.mark.long
SECONDS = 300  # for one command
BUILD = ["--conditions", "canny,hough=lsd,cartoon=standard", "--shard-size", "2", "--resolution", "256"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 60)


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the dataset as this machine makes it."""
    dataset = tmp_path_factory.mktemp("alone") / "dataset"
    assert command("build", str(photos), str(dataset), *BUILD).returncode == 0
    return digests(dataset)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    folder = tmp_path_factory.mktemp("spark")
    with SparkCluster(folder / "home", cores=2, environment=worker_on_path(folder)) as cluster:
        yield cluster


class Console:
    """``controlmill build --cluster``, as a process; what it says is in a file."""

    def __init__(self, cluster: SparkCluster, photos: Path, dataset: Path, *words: str) -> None:
        jar, staged = spark_job_server(dataset.parent)
        self.dataset = dataset
        self._said = dataset.with_name("said")
        words = (*words, "--cluster", cluster.address, "--cluster-page", cluster.page, "--job-server-jar", str(jar))
        words = (*words, "--beam-option", f"files_to_stage={staged}")
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controlmill", "build", str(photos), str(dataset), *BUILD, *words],
                stdout=said,
                stderr=said,
                env=cluster.environment,
            )

    def begin(self) -> None:
        """Wait until the job is at work."""
        until = time.monotonic() + SECONDS
        while len(list((self.dataset / "canny").rglob("*.parquet"))) < 3:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return self._said.read_text()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def test_an_executor_that_dies_is_replaced(
    cluster: SparkCluster, photos: Path, alone: dict[str, str], tmp_path: Path
) -> None:
    with Console(cluster, photos, tmp_path / "dataset") as console:
        console.begin()
        executors = cluster.executors()
        executors[0].kill()
        assert console.process.wait(SECONDS) == 0, console.said()
    assert len(executors) == 2
    assert digests(tmp_path / "dataset") == alone


def test_where_the_job_server_dies_the_same_command_goes_on(
    cluster: SparkCluster, photos: Path, alone: dict[str, str], tmp_path: Path
) -> None:
    with Console(cluster, photos, tmp_path / "dataset") as console:
        console.begin()
        family = psutil.Process(console.process.pid).children(recursive=True)
        (server,) = (part for part in family if "job-server" in " ".join(part.cmdline()))
        server.kill()
        assert console.process.wait(SECONDS) == 1
    assert "the job server has gone" in console.said()
    with Console(cluster, photos, tmp_path / "dataset") as console:
        assert console.process.wait(SECONDS) == 0, console.said()
    assert digests(tmp_path / "dataset") == alone


def test_a_job_goes_on_without_its_master(photos: Path, alone: dict[str, str], tmp_path: Path) -> None:
    own = SparkCluster(tmp_path / "home", cores=2, environment=worker_on_path(tmp_path))
    with own, Console(own, photos, tmp_path / "dataset") as console:
        console.begin()
        own.master.kill()
        assert console.process.wait(SECONDS) == 0, console.said()
        with Console(own, photos, tmp_path / "another") as refused:
            assert refused.process.wait(SECONDS) == 1
    assert digests(tmp_path / "dataset") == alone
    assert "cannot be reached" in refused.said()


def test_where_the_console_dies_the_job_ends(cluster: SparkCluster, photos: Path, tmp_path: Path) -> None:
    with Console(cluster, photos, tmp_path / "dataset") as console:
        console.begin()
        family = psutil.Process(console.process.pid).children(recursive=True)
        console.process.kill()
        family += [part for executor in cluster.executors() for part in (executor, *executor.children())]
        _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_a_worker_of_other_versions_is_named(cluster: SparkCluster, photos: Path, tmp_path: Path) -> None:
    program = worker_on_path(tmp_path)["PATH"].split(":")[0] + "/controlmill-worker"
    config = {"command": program, "env": {"CONTROLMILL_VERSIONS": json.dumps({"Python": "2.7"})}}
    options = ["--beam-option", "environment_type=PROCESS", "--beam-option", f"environment_config={json.dumps(config)}"]
    with Console(cluster, photos, tmp_path / "dataset", *options) as console:
        assert console.process.wait(SECONDS) == 1
    assert "has other versions than the machine where the job was started: Python: 2.7, now 3." in console.said()
