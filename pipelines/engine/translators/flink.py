"""Flink, by the REST address of its JobManager."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError

from ..cluster_address import ClusterAddress
from ..job_server import coordinates_of, property_in_jar
from .page import read_json
from .translator import ClusterFacts

BUILT = ".flink-runtime.version.properties"  # in a job server's jar: which Flink it was built with
NO_STRATEGY = ("", "none", "off", "disable")
ELASTIC = ("kubernetes", "yarn")  # how ``execution.target`` of a Flink begins that starts TaskManagers by itself
RESTART = (
    "this Flink does not start a job again where a TaskManager or a worker dies: the command would end there, and "
    "would have to be run again. In its configuration, restart-strategy.type: fixed-delay changes that "
    "(restart-strategy: fixed-delay before Flink 1.19)"
)


@dataclass(frozen=True)
class FlinkTranslator:
    """A Flink session cluster: jobs take the slots that are free.

    Args:
        address: of its REST service.
        seconds: to wait for each of its answers.
    """

    address: ClusterAddress
    seconds: float = 3
    engine: str = "Flink"

    def _ask(self, path: str) -> Any:
        what = "the REST service of a Flink JobManager"
        url = f"http://{self.address.netloc}/{path}"
        answer = read_json(url, what, self.seconds)
        if not answer or (isinstance(answer, dict) and "errors" in answer):
            raise MillError(f"what answers at {url} is not {what}, or one that has just started: {str(answer)[:200]}")
        return answer

    def facts(self) -> ClusterFacts:
        """What ``/overview``, ``/taskmanagers`` and ``/jobmanager/config`` say."""
        try:
            overview = self._ask("overview")
            managers = self._ask("taskmanagers")["taskmanagers"]
            settings = {entry["key"]: str(entry["value"]) for entry in self._ask("jobmanager/config")}
            slots = [int(manager["slotsNumber"]) for manager in managers]
            return ClusterFacts(
                version=str(overview["flink-version"]),
                workers=len(managers),
                slots_per_worker=max(slots, default=0) or int(settings.get("taskmanager.numberOfTaskSlots", 1)),
                free_slots=int(overview["slots-available"]),
                problems=tuple(_problems(settings)),
                queues=settings.get("execution.target", "").startswith(ELASTIC),
                starting=slots.count(0),  # a TaskManager is listed before its report of slots has come
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MillError(
                f"what answers at {self.address} is not a Flink JobManager as ControlMill knows it ({error!r})"
            ) from error

    def coordinates(self, version: str) -> str:
        """Of the job server for this minor version of Flink."""
        return coordinates_of(f"beam-runners-flink-{_minor(version)}-job-server")

    def jar_names(self, version: str) -> tuple[str, ...]:
        """As Beam names them; the version of Beam may be another one."""
        return (f"beam-runners-flink-{_minor(version)}-job-server-*.jar",)

    def job_server(self, jar: Path, facts: ClusterFacts) -> list[str]:
        """Where jobs go; the jar says which Flink it was built with."""
        built = property_in_jar(jar, BUILT, "project.version")
        if built and _minor(built) != _minor(facts.version):
            raise MillError(
                f"the job server {jar} is for Flink {_minor(built)}, and {self.address} is Flink {facts.version}: it "
                f"takes {self.coordinates(facts.version)}, or an older version of that"
            )
        return [f"--flink-master={self.address.netloc}"]

    def options(self, facts: ClusterFacts) -> tuple[str, ...]:
        """A shard in each free slot, each in a process of its own: threads of one process would share its Python."""
        return (f"parallelism={facts.free_slots}", f"sdk_worker_parallelism={facts.slots_per_worker}")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _problems(settings: Mapping[str, str]) -> list[str]:
    strategy = settings.get("restart-strategy.type", settings.get("restart-strategy", ""))
    return [RESTART] if strategy.lower() in NO_STRATEGY else []
