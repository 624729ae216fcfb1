"""Whether a cluster can take a job: looked at before a corpus is listed, and again before each job."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlmill.schemas.errors import MillError

from ..cluster_address import ClusterAddress
from ..job_server import find_jar
from ..messages import Engine
from .flink import FlinkTranslator
from .spark import SparkTranslator
from .translator import ClusterFacts, Translator

SETTLE_SECONDS = 5.0  # a cluster frees the slots of a job some time after it has ended the job
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Prepared:
    """A cluster that can take a job.

    Args:
        facts: what it said.
        jar: the job server that fits it.
        words: what the job server's command line says of it.
    """

    facts: ClusterFacts
    jar: Path
    words: tuple[str, ...]


def translator_of(engine: Engine) -> Translator:
    """What knows an engine's kind of cluster, Flink or Spark."""
    assert engine.cluster
    if engine.cluster.kind == "spark":
        return SparkTranslator(engine.cluster, engine.page, engine.waits.reach)
    return FlinkTranslator(engine.cluster, engine.waits.reach)


def prepare(engine: Engine, slots: int = 1) -> Prepared:
    """Look at a cluster, and find the job server for it.

    Args:
        engine: whose cluster.
        slots: how many are waited for, for seconds; they may have been those of a job that has just ended.

    Raises:
        MillError: it does not answer, it has no room for the job, or there is no job server for it.
    """
    assert engine.cluster
    translator = translator_of(engine)
    asked = given(engine.options, "parallelism")
    wanted = int(asked) if asked.isdecimal() else 1
    facts = _settled(translator, max(wanted, slots))
    _check_room(engine.cluster, translator.engine, facts, wanted)
    coordinates = translator.coordinates(facts.version)
    jar = find_jar(engine.job_server_jar, translator.jar_names(facts.version), coordinates)
    return Prepared(facts, jar, tuple(translator.job_server(jar, facts)))


def _settled(translator: Translator, slots: int) -> ClusterFacts:
    """What a cluster says once so many slots are free and no worker is starting, or after :data:`SETTLE_SECONDS`."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        facts = translator.facts()
        enough = facts.free_slots >= slots or slots > facts.workers * facts.slots_per_worker
        if facts.queues or (enough and not facts.starting) or time.monotonic() >= until:
            return facts
        time.sleep(POLL_SECONDS)


def _check_room(cluster: ClusterAddress, name: str, facts: ClusterFacts, wanted: int) -> None:
    if facts.queues or facts.free_slots >= wanted:
        return
    if not facts.workers:
        raise MillError(f"{name} at {cluster} has no workers: start some, then run the same command again")
    if facts.starting:
        raise MillError(
            f"{facts.starting} of {facts.workers} workers of {name} at {cluster} have not said yet how many slots they "
            "have: run the same command again in a moment, or look at their logs"
        )
    free = f"{facts.free_slots} free slot{'' if facts.free_slots == 1 else 's'}"
    asked = f"parallelism={wanted} asks for more" if wanted > 1 else "another job has them"
    raise MillError(
        f"{name} at {cluster} has {free} on {facts.workers} workers with {facts.slots_per_worker} each, and {asked}: "
        "wait for the other job to end, or start more workers. (A job that waits for a slot fails after minutes.)"
    )


def given(options: Sequence[str], name: str) -> str:
    """What the user's Beam options say of one of them; "" where they do not."""
    words = [option.removeprefix("--").partition("=") for option in options]
    return next((value for key, _, value in reversed(words) if key == name), "")
