"""What is told of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controlmill.pipelines.cluster import status
from controlmill.pipelines.engine.cluster_address import ClusterAddress
from controlmill.pipelines.engine.messages import Waits

ADDRESS = ClusterAddress("dask", "A", 8786)


BEHIND = 3600


class Scheduler:
    """Its clock is an hour behind; one of its workers has been silent for a minute."""

    def identity(self) -> dict[str, Any]:
        now = time.time() - BEHIND
        return {
            "workers": {
                f"B:{port}": {"host": "B", "nthreads": 1, "metrics": {}, "last_seen": now - (60 if port == 1 else 1)}
                for port in range(6)
            }
        }


class Client:
    """Tells of few workers when it is not told how many, as some versions of Dask do."""

    scheduler = Scheduler()

    def scheduler_info(self) -> dict[str, Any]:
        return {"workers": dict(list(self.scheduler.identity()["workers"].items())[:5])}

    def sync(self, call: Callable[[], Any]) -> Any:
        return call()

    def processing(self) -> dict[str, Any]:
        return {}

    def run_on_scheduler(self, call: Callable[[], float]) -> float:
        return call() - BEHIND


@contextmanager
def connected(*_: object) -> Iterator[Client]:
    yield Client()


def test_all_workers_are_told_and_silence_by_the_clock_of_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "connected", connected)
    host = status.state_of(ADDRESS, Waits())["hosts"]["B"]
    assert host["workers"] == 6
    assert host["late"] == 1
