"""A Spark cluster for long tests, of processes on loopback; its jars are PyPI's, kept with :mod:`engines`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.pipelines.engine.engines import OPENS, START_SECONDS, distribution, job_server

RUNNER = "org.apache.beam:beam-runners-spark-3:2.62.0"
MAIN = "org.apache.beam.runners.spark.SparkJobServerDriver"
MANIFEST_LINE = 70


def spark() -> Path:
    """The folder of a Spark 3.5.9: its jars in ``jars``."""
    return distribution("spark-3.5.9", "pyspark==3.5.9")


def spark_job_server(folder: Path) -> tuple[Path, Path]:
    """Beam's job server for it in a folder, and the jar that Spark's machines need of it.

    The job server is a list of jars: Beam's own build has Spark's in one file with the rest.
    """
    staged = job_server(RUNNER, MAIN)
    urls = [jar.as_uri() for jar in (staged, *sorted((spark() / "jars").glob("*.jar")))]
    text = f"Class-Path: {' '.join(urls)}"
    folded = [text[at : at + MANIFEST_LINE] for at in range(0, len(text), MANIFEST_LINE)]
    jar = folder / "beam-runners-spark-3-job-server-2.62.0.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        lines = ("Manifest-Version: 1.0", f"Main-Class: {MAIN}", "\r\n ".join(folded))
        archive.writestr("META-INF/MANIFEST.MF", "\r\n".join(lines) + "\r\n\r\n")
    return jar, staged


class SparkCluster:
    """A master and workers of some cores each, as processes on loopback; they end with the context.

    Args:
        home: a folder for its files.
        workers: how many.
        cores: of each.
        environment: of its processes.
    """

    def __init__(
        self, home: Path, workers: int = 2, cores: int = 1, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.home = home
        self.address = ""
        self.page = ""
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started: list[subprocess.Popen[bytes]] = []
        self._counts = workers, cores
        self._spark = spark()
        self.environment = {
            **environment,
            "SPARK_HOME": str(self._spark),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(home / "tmp"),
            "SPARK_SCALA_VERSION": "2.12",  # PyPI's folder does not tell it
            "TMPDIR": str(home / "tmp"),
        }

    def __enter__(self) -> SparkCluster:
        (self.home / "tmp").mkdir(parents=True)
        try:
            self._start("master", "master.Master", "--port", "0")
            self.address = self._said("master", r"Starting Spark master at (spark://\S+)")
            self.page = "http://127.0.0.1:" + self._said("master", r"service 'MasterUI' on port (\d+)")
            workers, cores = self._counts
            for number in range(workers):
                words = ("--cores", str(cores), "--memory", "1g", "--work-dir", str(self.home / "work"), self.address)
                self.workers.append(self._start(f"worker{number}", "worker.Worker", *words))
            self._wait_for_workers(workers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):  # first workers, which end their executors
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(START_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def master(self) -> subprocess.Popen[bytes]:
        """What jobs are sent to."""
        return self._started[0]

    def executors(self) -> list[psutil.Process]:
        """Spark's parts of jobs that run now."""
        return [
            child
            for worker in self.workers
            for child in psutil.Process(worker.pid).children()
            if "CoarseGrainedExecutorBackend" in " ".join(child.cmdline())
        ]

    def _start(self, name: str, main: str, *words: str) -> subprocess.Popen[bytes]:
        java = ["java", "-Xmx256m", *OPENS, "-cp", f"{self._spark}/jars/*", f"org.apache.spark.deploy.{main}"]
        with open(self.home / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                [*java, "--host", "127.0.0.1", "--webui-port", "0", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _said(self, name: str, pattern: str) -> str:
        """What a part of it logs about itself."""
        log, until = self.home / f"{name}.log", time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            found = re.search(pattern, log.read_text(errors="replace"))
            if found:
                return found[1]
            if self._started[-1].poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"no {pattern}: see {log}")

    def _wait_for_workers(self, number: int) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        until, state = time.monotonic() + START_SECONDS, dict[str, Any]()
        while time.monotonic() < until:
            with suppress(OSError), opener.open(f"{self.page}/json/", timeout=10) as answer:
                state = json.load(answer)
            if state.get("aliveworkers") == number:
                return
            time.sleep(0.2)
        raise AssertionError(f"not {number} workers: {state}; see {self.home}")
