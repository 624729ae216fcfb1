"""This process as a worker: its place among other workers, its share of the machine, and what its shards share."""

from __future__ import annotations

import functools
import socket
import threading
import uuid
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

import cv2

from controlmill.annotators.runtime.placement import Placement
from controlmill.schemas.errors import MillError

from .claims import claim, claimed, first_of

T = TypeVar("T")
WORKING = "working-"  # begins the names of processes that have shards in flight
MOST_WORKERS = 256  # of a machine, among which its GPUs are dealt out


class Worker:
    """What one process holds: see :func:`this_worker`. Its shards may be in several threads.

    ``forward_lock`` is held while a network runs, so that networks take turns.
    """

    def __init__(self) -> None:
        cv2.setNumThreads(1)  # codec threads are the parallelism
        self.forward_lock = threading.Lock()
        self._loaded: dict[Hashable, Any] = {}
        self._loading = threading.RLock()  # what is loaded may need something else that is loaded
        self._counting = threading.Lock()
        self._shards = 0
        self._working: socket.socket | None = None

    @functools.cached_property
    def index(self) -> int:
        """Which this process is of the machine's workers that have asked: the smallest number that is free, for life.

        It is 0 where processes cannot see each other (:mod:`claims`).
        """
        index, self._place = first_of(f"worker-{number}" for number in range(MOST_WORKERS))
        return index

    @property
    def shards(self) -> int:
        """Shards that this process has in flight now."""
        return self._shards

    @contextmanager
    def shard(self) -> Iterator[None]:
        """A shard, in flight while the block runs."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._counting:
            self._shards += change
            if self._shards and not self._working:
                self._working = claim(WORKING + uuid.uuid4().hex)
            elif not self._shards and self._working:
                self._working.close()
                self._working = None

    def threads(self) -> int:
        """Codec threads that fall to this process: the processors that it may use (affinity, control group), shared
        evenly with other processes of the machine that have shards in flight, as far as they see each other.
        """
        from dask.system import cpu_count

        return int(max(1, cpu_count() // max(1, claimed(WORKING))))

    def once(self, key: Hashable, load: Callable[[], T]) -> T:
        """What ``load`` returns, called once for each key; again where it raised."""
        if key not in self._loaded:
            with self._loading:
                if key not in self._loaded:
                    self._loaded[key] = load()
        return cast(T, self._loaded[key])

    def device(self, name: str) -> str:
        """A device of this machine; of several GPUs, ``cuda`` is the one that falls to this worker.

        Raises:
            MillError: this machine has no such device.
        """
        from controlmill.annotators.runtime.torch_device import device_of_worker, resolve_device

        try:
            found = resolve_device(name)
        except MillError as error:
            raise MillError(
                f"on {socket.gethostname()}: {error}; where a job runs, all workers need the device"
            ) from error
        return device_of_worker(found, self.index) if found == "cuda" else found

    def prepare(self, place: Placement) -> Placement:
        """Prepare this process (threads of networks, arithmetic) for a placement; the same one on this worker's device.

        Raises:
            MillError: this machine has no such device.
        """
        from controlmill.annotators.runtime.torch_device import prepare_process

        device = self.device(place.device)
        prepare_process(place)
        return replace(place, device=device)


@functools.cache
def this_worker() -> Worker:
    """The worker that this process is."""
    return Worker()
