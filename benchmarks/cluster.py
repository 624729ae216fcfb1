"""`controlmill build` on clusters of two workers against `--workers 2`, all on this machine; memory of every process.

Clusters are started for each build, and that is not timed. Flink and Spark are those of the long tests, and left out
where they cannot be had. A job server that is kept is not started by the command, as it is with ``--cluster``, and has
done a small job before, as has its cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import psutil
import pytest

from benchmarks.build import DATA, build
from benchmarks.corpus import write_photographs
from controlmill.pipelines.engine.cluster_address import parse_cluster
from controlmill.pipelines.engine.job_server import JobServer
from controlmill.pipelines.engine.messages import Engine
from controlmill.pipelines.engine.portable import environment
from controlmill.pipelines.engine.repeating import repeating
from controlmill.pipelines.engine.translators.preparation import prepare, translator_of
from controlmill.schemas.fingerprint import fingerprint, processor_name, sha256_file
from tests.pipelines.engine import engines
from tests.pipelines.engine.spark_cluster import SparkCluster, spark_job_server

LOOK_SECONDS = 1.0
READY_SECONDS = 120
SMALLER = 4  # times: the corpus whose memory is compared
FIRST = 8  # photographs of the job that a kept job server has done before
ONE, TWO, DASK, SPARK = "one worker", "two workers", "Dask", "Spark"
FLINK, KEPT = "Flink", "Flink with a kept job server"
GOALS = {ONE: "at least 1.75", DASK: "at most 1.03", KEPT: "at most 1.15", SPARK: "at most 1.4"}
ROLES = {  # what a command line has → what the process is
    "controlmill build": "console",
    "StandaloneSessionClusterEntrypoint": "JobManager",
    "TaskManagerRunner": "TaskManager",
    "deploy.master.Master": "master",
    "deploy.worker.Worker": "worker of Spark",
    "CoarseGrainedExecutorBackend": "executor",
    "job-server": "job server",
    "controlmill-worker": "worker",
    '"role": "scheduler"': "scheduler",
    '"role": "worker"': "worker",
    "engine.child": "the job's process",
    "spawn_main": "worker",
    "cluster up": "supervisor",
}

Way = Callable[[Path], AbstractContextManager[list[str]]]


@contextmanager
def this_machine(*words: str) -> Iterator[list[str]]:
    """Options of a build without a cluster."""
    yield list(words)


@contextmanager
def dask(home: Path) -> Iterator[list[str]]:
    """A Dask cluster as a user starts it."""
    address = f"127.0.0.1:{engines.free_port()}"
    words = [sys.executable, "-m", "controlmill", "cluster", "up", "--workers", "2", "--listen", address]
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "XDG_STATE_HOME": str(home)})
    try:
        _wait_for(process, "--cluster", home / "up.log")
        yield ["--cluster", address]
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], text: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while text not in log.read_text():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(log.read_text())
        time.sleep(0.1)


@contextmanager
def flink(home: Path) -> Iterator[list[str]]:
    """A Flink session cluster, by its address."""
    on_path = engines.worker_on_path(home)
    with mock.patch.dict(os.environ, on_path), engines.FlinkCluster(home / "flink") as cluster:
        yield ["--cluster", cluster.address, "--job-server-jar", str(engines.flink_job_server())]


@contextmanager
def flink_kept(home: Path) -> Iterator[list[str]]:
    """The same, through a job server that runs already."""
    with flink(home) as (_, address, _, jar):
        engine = Engine(cluster=parse_cluster(address), job_server_jar=jar)
        prepared = prepare(engine)
        with JobServer(prepared.jar, prepared.words, home / "job-server.log") as server:
            endpoint = f"job_endpoint={server.endpoint}"
            options = (endpoint, *translator_of(engine).options(prepared.facts), *environment(()))
            words = ["--runner", "PortableRunner", *(word for option in options for word in ("--beam-option", option))]
            with build(write_photographs(DATA / f"photographs-{FIRST}", FIRST), *words) as first:
                subprocess.run([sys.executable, *first], capture_output=True, check=True)
            prepare(engine, prepared.facts.free_slots)
            yield words


@contextmanager
def spark(home: Path) -> Iterator[list[str]]:
    """A Spark standalone cluster, by its address."""
    jar, staged = spark_job_server(home)
    cluster = SparkCluster(home / "spark", environment=engines.worker_on_path(home))
    with cluster, mock.patch.dict(os.environ, cluster.environment):
        page, files = ["--cluster-page", cluster.page], ["--beam-option", f"files_to_stage={staged}"]
        yield ["--cluster", cluster.address, *page, "--job-server-jar", str(jar), *files]


WAYS: dict[str, Way] = {
    ONE: lambda _: this_machine(),
    TWO: lambda _: this_machine("--workers", "2"),
    DASK: dask,
    FLINK: flink,
    KEPT: flink_kept,
    SPARK: spark,
}


@dataclass
class Peaks:
    """Peak memory of every process that this one has started, by what it is; in MiB of resident memory."""

    of: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    total: float = 0.0

    def look(self) -> None:
        """Look once."""
        total = 0.0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                mebibytes = process.memory_info().rss / 2**20
                peaks = self.of[_role(process)]
                peaks[process.pid] = max(peaks.get(process.pid, 0.0), mebibytes)
                total += mebibytes
        self.total = max(self.total, total)

    def largest(self) -> dict[str, float]:
        """Role → MiB of its largest process."""
        return {role: max(peaks.values()) for role, peaks in sorted(self.of.items())}

    def __str__(self) -> str:
        parts = (
            f"{role} {', '.join(f'{peak:.0f}' for peak in peaks.values())}" for role, peaks in sorted(self.of.items())
        )
        return f"{self.total:.0f} MiB in all: {'; '.join(parts)}"


def _role(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    return next((role for text, role in ROLES.items() if text in words), "others")


@dataclass(frozen=True)
class Built:
    """What a build took, and a digest of what it made."""

    seconds: float
    peaks: Peaks
    digest: str


def run(way: Way, photos: Path) -> Built:
    """Build once.

    Raises:
        subprocess.CalledProcessError: it failed; its log has been printed.
    """
    peaks = Peaks()
    with tempfile.TemporaryDirectory() as home, way(Path(home)) as options, build(photos, *options) as words:
        log = Path(home, "build.log")
        with repeating(peaks.look, LOOK_SECONDS), log.open("wb") as file:
            started = time.monotonic()
            status = subprocess.run([sys.executable, *words], stdout=file, stderr=file, check=False).returncode
            seconds = time.monotonic() - started
        if status:
            print(log.read_text())
            raise subprocess.CalledProcessError(status, words)
        dataset = Path(words[4])
        digest = fingerprint({str(path): sha256_file(path) for path in sorted(dataset.rglob("*.parquet"))})
    return Built(seconds, peaks, digest)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="photographs")
    parser.add_argument("--rounds", type=int, default=1, help="of each; medians are compared")
    parser.add_argument("--way", action="append", choices=WAYS, help="one of them, beside --workers 2; repeatable")
    parser.add_argument("--no-memory", action="store_true", help="leave out the corpus a quarter as large")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that no cluster is left
    ways = {name: way for name, way in WAYS.items() if name == TWO or name in (arguments.way or WAYS)}
    photos = write_photographs(DATA / f"photographs-{arguments.count}", arguments.count)
    built: dict[str, list[Built]] = {}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            try:
                built.setdefault(name, []).append(run(way, photos))
            except pytest.skip.Exception as reason:
                print(f"{name} is left out: {reason}")
    built = {name: times for name, times in built.items() if times}
    print(f"{processor_name()}, {os.cpu_count()} cores; {arguments.count} photographs, medians of {arguments.rounds}")
    median = {name: statistics.median(one.seconds for one in times) for name, times in built.items()}
    for name, seconds in median.items():
        goal = f" (goal: {GOALS[name]})" if name in GOALS else ""
        print(f"{name:28} {seconds:7.1f} s, {seconds / median[TWO]:.2f} times two workers{goal}")
        print(f"{'':28} {built[name][-1].peaks}")
    print(f"different datasets: {len({one.digest for times in built.values() for one in times})}")
    for name in median if not arguments.no_memory else ():
        fewer = arguments.count // SMALLER
        small = run(ways[name], write_photographs(DATA / f"photographs-{fewer}", fewer)).peaks.largest()
        large = built[name][-1].peaks.largest()
        grown = ", ".join(f"{role} {large[role] / small[role]:.2f}" for role in large if role in small)
        print(f"{name}, memory of the largest process of a kind, {arguments.count} / {fewer} photographs: {grown}")


if __name__ == "__main__":
    main()
