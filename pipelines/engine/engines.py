"""Which of the engines runs a job's graphs."""

from __future__ import annotations

from .dask import DaskCluster, DaskWorkers
from .embedded import Runner
from .graphs import Graphs
from .messages import Engine
from .portable import PortableCluster


def open_engine(engine: Engine) -> Graphs:
    """What runs an engine's graphs.

    Raises:
        MillError: a cluster cannot take its jobs.
    """
    if engine.cluster is None:
        return DaskWorkers(engine) if engine.workers else Runner(engine)
    return DaskCluster(engine) if engine.cluster.kind == "dask" else PortableCluster(engine)
