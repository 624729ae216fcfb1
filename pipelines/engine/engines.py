"""Which of the engines runs a job's graphs."""

from __future__ import annotations

from controlmill.schemas.errors import MillError

from .dask import DaskCluster, DaskWorkers
from .embedded import Runner
from .graphs import Graphs
from .messages import Engine


def open_engine(engine: Engine) -> Graphs:
    """What runs an engine's graphs.

    Raises:
        MillError: there is nothing that does.
    """
    if engine.cluster is None:
        return DaskWorkers(engine) if engine.workers else Runner(engine)
    if engine.cluster.kind == "dask":
        return DaskCluster(engine)
    raise MillError(f"--cluster {engine.cluster}: jobs cannot be sent to {engine.cluster.kind} by its address")
