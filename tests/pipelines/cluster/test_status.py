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


class Client:
    """Of a scheduler whose clock is an hour behind; one of its workers has been silent for a minute."""

    def scheduler_info(self) -> dict[str, Any]:
        worker = {"host": "B", "nthreads": 1, "metrics": {}}
        now = self.run_on_scheduler(time.time)
        return {"workers": {"B:1": worker | {"last_seen": now - 1}, "B:2": worker | {"last_seen": now - 60}}}

    def processing(self) -> dict[str, Any]:
        return {}

    def run_on_scheduler(self, call: Callable[[], float]) -> float:
        return call() - 3600


@contextmanager
def connected(*_: object) -> Iterator[Client]:
    yield Client()


def test_silence_is_told_by_the_clock_of_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "connected", connected)
    assert status.state_of(ADDRESS, Waits())["hosts"]["B"]["late"] == 1
