"""Spark's standalone cluster: its master's page says what there is.

The page has no interface of its own for the version, which stands in its heading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError

from ..cluster_address import ClusterAddress
from ..job_server import coordinates_of, property_in_jar
from .page import read_json, read_page
from .translator import ClusterFacts

PAGE_PORT = 8080
MAJOR = "3"  # of the Spark that Beam has a job server for
ARTIFACT = f"beam-runners-spark-{MAJOR}-job-server"
EXECUTOR_MEGABYTES = 1024  # what Spark asks of a worker for its part of a job, unless spark.executor.memory is set
TASKS_PER_CORE = 4  # so that a core which is slow, or comes later, leaves work to the others
FAILURES = 10  # of a task, until the job fails: Spark's 4 are few where several shards of a task kill a worker
KEEP_MILLISECONDS = 60_000  # a Python process that waits for its next task
VERSION = re.compile(r'class="version"[^>]*>\s*([\d.]+)')
ASK_FOR_PAGE = "Give the address of the master's page with --cluster-page, e.g. http://HOST:8080"


@dataclass(frozen=True)
class SparkTranslator:
    """Asks a Spark master's page, and tells Beam to use the cluster.

    Args:
        address: of the master.
        page: of its page, e.g. ``http://HOST:8080``; "": at the usual port of the same host.
        seconds: to wait for an answer.
    """

    address: ClusterAddress
    page: str = ""
    seconds: float = 3
    engine: str = "Spark"

    def facts(self) -> ClusterFacts:
        """What the master says of itself and of its workers.

        A job takes the free cores of each worker that has the memory which Spark asks for by default.

        Raises:
            MillError: it does not answer, it is no Spark master or not the one of this address, it is not the active
                one, it has no workers, or Beam has no job server for its version.
        """
        page = self._page()
        try:
            state = read_json(f"{page}/json/", "the page of a Spark master", self.seconds)
            heading = VERSION.search(read_page(f"{page}/", "the page of a Spark master", self.seconds))
        except MillError as error:
            raise MillError(f"{error}. {ASK_FOR_PAGE}") from error
        workers = _alive(state)
        if workers is None:
            raise MillError(f"what answers at {page} is not the page of a Spark master. {ASK_FOR_PAGE}")
        self._check_master(page, state)
        version = heading[1] if heading else ""
        if version and version.split(".")[0] != MAJOR:
            raise MillError(f"{self.address} is Spark {version}: Beam has a job server for Spark {MAJOR} alone")
        if not workers:
            raise MillError(
                f"{self.address} has no workers: start some, e.g. with  sbin/start-worker.sh {self.address}"
            )
        able = [worker for worker in workers if worker["memoryfree"] >= EXECUTOR_MEGABYTES]
        free = sum(worker["coresfree"] for worker in able)
        return ClusterFacts(
            version=version,
            workers=len(workers),
            slots_per_worker=max(worker["cores"] for worker in workers),
            free_slots=free,
            problems=_problems(state, workers, able),
            queues=True,
        )

    def _page(self) -> str:
        if not self.page:
            return f"http://{replace(self.address, port=PAGE_PORT).netloc}"
        page = self.page if "://" in self.page else f"http://{self.page}"
        return page.rstrip("/").removesuffix("/json")

    def _check_master(self, page: str, state: dict[str, Any]) -> None:
        """Whether a page is that of the active master of this address; hosts have many names, so ports are compared."""
        if state["url"].rpartition(":")[2].rstrip("/") != str(self.address.port):
            raise MillError(f"the page {page} is that of {state['url']}, not of {self.address}. {ASK_FOR_PAGE}")
        if state.get("status") != "ALIVE":
            raise MillError(f"{self.address} takes no jobs, it is {state.get('status')}: give the active master")

    def coordinates(self, version: str) -> str:
        """Maven coordinates of Beam's job server; which minor version of Spark it holds is seen when there is a jar."""
        return coordinates_of(ARTIFACT)

    def jar_names(self, version: str) -> tuple[str, ...]:
        """Patterns of the file name that such a job server has."""
        return (f"{ARTIFACT}-*.jar",)

    def job_server(self, jar: Path, facts: ClusterFacts) -> list[str]:
        """The master, and Spark's settings: how a job is cut into tasks, and how often one is tried.

        Raises:
            MillError: the jar holds a Spark of another minor version, whose messages the cluster does not understand.
        """
        held = property_in_jar(jar, "spark-version-info.properties", "version")
        if held and facts.version and _minor(held) != _minor(facts.version):
            raise MillError(
                f"the job server {jar} is for Spark {_minor(held)}, and {self.address} is Spark {facts.version}: they "
                f"do not understand each other. Give one for Spark {_minor(facts.version)} with --job-server-jar"
            )
        return [
            f"--spark-master-url={self.address}",
            f"-Dspark.default.parallelism={facts.workers * facts.slots_per_worker * TASKS_PER_CORE}",
            f"-Dspark.task.maxFailures={FAILURES}",
        ]

    def options(self, facts: ClusterFacts) -> tuple[str, ...]:
        """A Python process for each core: Spark has one executor a worker, with all of its free cores."""
        return (
            f"sdk_worker_parallelism={facts.slots_per_worker}",
            f"environment_cache_millis={KEEP_MILLISECONDS}",
        )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _alive(state: Any) -> list[dict[str, Any]] | None:
    """The workers that take part; None where this is not the state of a master."""
    if not isinstance(state, dict) or not str(state.get("url")).startswith("spark://"):
        return None
    workers = state.get("workers")
    if not isinstance(workers, list) or not all(isinstance(worker, dict) for worker in workers):
        return None
    alive = [worker for worker in workers if worker.get("state") == "ALIVE"]
    counted = all(
        isinstance(worker.get(name), int) for worker in alive for name in ("cores", "coresfree", "memoryfree")
    )
    return alive if counted else None


def _problems(state: dict[str, Any], workers: list[dict[str, Any]], able: list[dict[str, Any]]) -> tuple[str, ...]:
    """Why a job would wait, or use less than there is."""
    apps = state.get("activeapps")
    names = ", ".join(str(app.get("name")) for app in apps if isinstance(app, dict)) if isinstance(apps, list) else ""
    taken = f" (running: {names})" if names else ""
    if not any(worker["coresfree"] for worker in workers):
        return (f"all cores of its workers are in use{taken}: the job waits until some are free",)
    if not any(worker["coresfree"] for worker in able):
        return (
            f"no worker has a free core and {EXECUTOR_MEGABYTES} MB of memory{taken}, which Spark asks for: the job "
            "waits until one has",
        )
    small = len(workers) - len(able)
    return (
        (f"{small} of {len(workers)} workers have less than {EXECUTOR_MEGABYTES} MB free, and stay idle",)
        if small
        else ()
    )
