"""A Flink cluster on this machine, parts of which die: what a user sees, and the same bytes in the end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers import command, digests, write_photos
from tests.pipelines.engine.engines import FlinkCluster, flink_job_server, worker_on_path

pytestmark = pytest.mark.long
PHOTOS = 160
BEGUN = 3  # maps are committed when something is killed
SECONDS = 240  # for one command
GO_ON = "What is committed stays: run the same command again to go on."
CONDITIONS = ["--conditions", "canny,hough=lsd,cartoon=standard"]
RESTARTS = {
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": 3,
    "restart-strategy.fixed-delay.delay": "1 s",
}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset without maps."""
    folder = tmp_path_factory.mktemp("ingested")
    photos = write_photos(folder / "photos", PHOTOS)
    words = ["--shard-size", "4", "--min-side", "16", "--resolution", "128"]
    assert command("ingest", str(photos), str(folder / "dataset"), *words).returncode == 0
    return folder / "dataset"


@pytest.fixture(scope="module")
def wanted(ingested: Path) -> dict[str, str]:
    """What every job must make of it."""
    dataset = shutil.copytree(ingested, ingested.with_name("wanted"))
    assert command("annotate", str(dataset), *CONDITIONS).returncode == 0
    return digests(dataset)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    folder = tmp_path_factory.mktemp("flink")
    flink_job_server()
    with FlinkCluster(folder / "home", managers=2, settings=RESTARTS) as cluster:
        yield cluster


class Console:
    """``controlmill annotate --cluster``, as a process; what it says is in a file."""

    def __init__(self, cluster: FlinkCluster, dataset: Path, *words: str) -> None:
        self.dataset = dataset
        self._said = dataset.with_name("said")
        self._words = ["annotate", str(dataset), *CONDITIONS, "--cluster", cluster.address]
        self._words += ["--job-server-jar", str(flink_job_server()), *words]
        self._temporary = dataset.with_name("temporary")
        self._temporary.mkdir()
        self._environment = {
            **worker_on_path(dataset.parent),
            "TMPDIR": str(self._temporary),
            "http_proxy": "http://127.0.0.1:1",  # where nothing listens: a cluster is spoken to directly
        }
        self.start()

    def start(self) -> None:
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controlmill", *self._words],
                stdout=said,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )

    def begin(self) -> None:
        """Wait until the job is at work."""
        wait_until(lambda: self.committed() >= BEGUN or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()

    def committed(self) -> int:
        return len(list((self.dataset / "canny").rglob("*.parquet")))

    def said(self) -> str:
        return self._said.read_text()

    def end(self) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(SECONDS)

    def run_again(self) -> None:
        """The same command, which has to succeed."""
        self.start()
        assert self.end() == 0, self.said()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def left_behind(self) -> list[str]:
        """Temporary files that are still there."""
        return [str(path) for path in self._temporary.iterdir()]


@pytest.fixture
def console(cluster: FlinkCluster, ingested: Path, tmp_path: Path) -> Iterator[Console]:
    """A job that is at work."""
    console = Console(cluster, shutil.copytree(ingested, tmp_path / "dataset"))
    try:
        console.begin()
        yield console
    finally:
        console.process.kill()
        console.process.wait()
        wait_until(lambda: cluster.ask("overview")["jobs-running"] == 0)


def wait_until(ready: Callable[[], bool], seconds: float = SECONDS) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.05)


def workers_of(cluster: FlinkCluster) -> list[psutil.Process]:
    managers = [psutil.Process(process.pid) for process in cluster.processes.values() if process.poll() is None]
    below = [child for manager in managers for child in manager.children(recursive=True)]
    return [process for process in below if any("controlmill-worker" in word for word in process.cmdline())]


def test_a_worker_that_dies_is_replaced(cluster: FlinkCluster, console: Console, wanted: dict[str, str]) -> None:
    workers_of(cluster)[0].kill()
    assert console.end() == 0, console.said()
    assert digests(console.dataset) == wanted
    assert not console.left_behind()


def test_a_task_manager_that_dies_may_be_replaced(
    cluster: FlinkCluster, console: Console, wanted: dict[str, str]
) -> None:
    cluster.kill("taskmanager1")
    cluster.start_manager("taskmanager1")
    assert console.end() == 0, console.said()
    assert digests(console.dataset) == wanted
    cluster.wait_for("taskmanagers", 2)


def test_where_the_job_server_dies_the_job_ends(console: Console, wanted: dict[str, str]) -> None:
    (server,) = [process for process in console.family() if "--flink-master" in " ".join(process.cmdline())]
    server.kill()
    assert console.end() == 1
    assert "the job server has gone" in console.said()
    assert GO_ON in console.said()
    (log,) = console.left_behind()
    assert log in console.said()
    console.run_again()
    assert digests(console.dataset) == wanted
    assert console.left_behind() == [log]


def test_where_the_console_dies_the_job_ends(cluster: FlinkCluster, console: Console, wanted: dict[str, str]) -> None:
    family = console.family()
    console.process.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    wait_until(lambda: cluster.ask("overview")["slots-available"] == 2, 60)
    assert not console.left_behind()
    console.run_again()
    assert digests(console.dataset) == wanted


def test_a_job_that_is_stopped_leaves_the_cluster_free(cluster: FlinkCluster, console: Console) -> None:
    console.process.send_signal(signal.SIGTERM)
    assert console.end() == 130
    assert "Stopped." in console.said()
    wait_until(lambda: cluster.ask("overview")["slots-available"] == 2, 30)
    assert not workers_of(cluster)
    assert not console.left_behind()


def with_worker(program: str, **variables: str) -> list[str]:
    """Options for workers that are started in another way."""
    config = json.dumps({"command": program, "env": variables})
    return ["--beam-option", "environment_type=PROCESS", "--beam-option", f"environment_config={config}"]


def test_a_worker_of_other_versions_is_named(cluster: FlinkCluster, ingested: Path, tmp_path: Path) -> None:
    program = shutil.which("controlmill-worker", path=worker_on_path(tmp_path)["PATH"])
    assert program
    options = with_worker(program, CONTROLMILL_VERSIONS=json.dumps({"Python": "2.7"}))
    console = Console(cluster, shutil.copytree(ingested, tmp_path / "dataset"), *options)
    assert console.end() == 1
    assert "has other versions than the machine where the job was started: Python: 2.7, now 3." in console.said()


def test_a_machine_without_the_program_is_told_of(cluster: FlinkCluster, ingested: Path, tmp_path: Path) -> None:
    options = with_worker("/nowhere/controlmill-worker")
    console = Console(cluster, shutil.copytree(ingested, tmp_path / "dataset"), *options)
    assert console.end() == 1
    assert "IOException: error=2, No such file or directory" in console.said()
    assert "a machine of the cluster has no controlmill-worker where this one has it" in console.said()


def test_a_job_without_a_free_slot_is_not_sent(cluster: FlinkCluster, ingested: Path, tmp_path: Path) -> None:
    console = Console(cluster, shutil.copytree(ingested, tmp_path / "dataset"), "--beam-option", "parallelism=3")
    assert console.end() == 1
    assert "has 2 free slots on 2 workers with 1 each, and parallelism=3 asks for more" in console.said()


def test_where_the_job_manager_dies_the_command_ends_and_says_so(
    cluster: FlinkCluster, ingested: Path, tmp_path: Path
) -> None:
    """The last of them: the cluster is gone."""
    console = Console(cluster, shutil.copytree(ingested, tmp_path / "dataset"))
    try:
        console.begin()
        cluster.kill("jobmanager")
        assert console.end() == 1
    finally:
        console.process.kill()
    assert f"Flink's JobManager at 127.0.0.1:{cluster.rest} cannot be reached" in console.said()
    assert GO_ON in console.said()
    assert not list((console.dataset / "_run").glob("*"))
