"""What the console and the job's process tell each other. Light: neither waits for the other's imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cluster_address import ClusterAddress

if TYPE_CHECKING:
    from .stage import Stage

EMBEDDED = "FnApiRunner"
RUNNERS = (  # Beam's names, which it would have to be imported to know
    *("BundleBasedDirectRunner", "DataflowRunner", "DirectRunner", "FlinkRunner", EMBEDDED, "InteractiveRunner"),
    *("KafkaStreamsRunner", "PortableRunner", "PrismRunner", "SparkRunner", "SwitchingDirectRunner"),
    *("TestDataflowRunner", "TestDirectRunner"),
)
DONE = 0
ENGINE_FAILED = 3  # the engine raised, and starting again would not help; ANSWER says what
TOLD = 4  # what was asked cannot be done; ANSWER says why, in words for the user
ANSWER = "answer"  # file in the temporary folder of the job's process


@dataclass(frozen=True)
class Waits:
    """Seconds after which a part of a cluster that does not answer is taken to be gone.

    ``reach`` is for a connection. After ``first_shard`` without a shard that was begun, and after ``silence`` without a
    sign of any worker, the user is told; where the cluster cannot be reached either, the job ends. It ends after
    ``give_up`` in any case (0: never).
    """

    reach: float = 3.0
    first_shard: float = 30.0
    silence: float = 60.0
    give_up: float = 600.0


@dataclass(frozen=True)
class Engine:
    """What runs Beam graphs: a runner with Beam's own options, processes of this machine, or a cluster by its address.

    The embedded runner is asked for by its own name: "DirectRunner" may try to download another one, and hang.

    Args:
        runner: Beam's name of the runner.
        workers: processes of this machine; 0: one, without a Dask cluster.
        options: Beam's options.
        cluster: a cluster that is there already.
        page: where the state of a Spark master is read, if that is not the usual place.
        job_server_jar: Beam's job server for a cluster that needs one, if it is not in the usual place.
        waits: how long a part of a cluster may be silent.
    """

    runner: str = EMBEDDED
    workers: int = 0
    options: tuple[str, ...] = ()
    cluster: ClusterAddress | None = None
    page: str = ""
    job_server_jar: str = ""
    waits: Waits = Waits()

    @property
    def here(self) -> bool:
        """Whether the job's process does all the work itself."""
        return self.runner == EMBEDDED and not self.workers and self.cluster is None

    @property
    def elsewhere(self) -> bool:
        """Whether there may be workers that do not end with the job's process."""
        return self.cluster is not None or (self.runner != EMBEDDED and not self.workers)

    @property
    def title(self) -> str:
        """What messages call it."""
        if self.cluster:
            return f"the cluster at {self.cluster}"
        return f"{self.workers} processes of this machine" if self.workers else self.runner


def is_runner(name: str) -> bool:
    """Whether Beam finds a runner: by its name in any case, also without "Runner", or by the full name of a class."""
    known = {runner.lower() for runner in RUNNERS}
    return "." in name or not known.isdisjoint({name.lower(), f"{name.lower()}runner"})


@dataclass(frozen=True)
class Loading:
    """What the job's process is asked before a job: to load the networks that make some tables of a stage.

    ``here`` says whether it will work with them itself.
    """

    stage: Stage
    tables: tuple[str, ...]
    here: bool
