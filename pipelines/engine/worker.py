"""This process as a worker: its place among other workers, its share of the machine, and what its shards share."""

from __future__ import annotations

import functools
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import cv2

from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.torch_device import (
    device_of_worker,
    keep_freed_memory,
    prepare_process,
    resolve_device,
)
from controlmill.schemas.errors import MillError
from controlmill.schemas.imports import uncollected
from controlmill.schemas.machine import processors

from .claims import claim, claimed, first_of

T = TypeVar("T")
KEEP_SECONDS = 300.0  # that something is kept which the run at hand has not used
WORKING = "working-"  # begins the names of processes that have shards in flight
# of the shard that a thread works on; threads may be of several runs
RUN: ContextVar[str] = ContextVar("run", default="")
MOST_WORKERS = 256  # of a machine, among which its GPUs are dealt out


@dataclass
class _Loaded:
    """Something that is loaded, with the run that used it last, and when that was."""

    value: Any
    run: str
    used: float


class Worker:
    """What one process holds: see :func:`this_worker`. Its shards may be in several threads.

    ``forward_lock`` is held while a network runs, so that networks take turns.

    A process of a cluster works for one run after another, for days. What it has loaded for a run is loaded anew for
    the next one, which may find other files; only what ``stays`` is shared by runs. What no run uses is let go of.
    """

    def __init__(self) -> None:
        cv2.setNumThreads(1)  # codec threads are the parallelism
        keep_freed_memory(of_large=False)
        self.forward_lock = threading.Lock()
        self._loaded: dict[Hashable, _Loaded] = {}
        self._loading = threading.RLock()  # what is loaded may need something else that is loaded
        self._counting = threading.RLock()
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
    def shard(self, run: str) -> Iterator[None]:
        """A shard of a run, in flight while the block works on it."""
        before = RUN.set(run)
        try:
            with self._counting:  # no other shard begins meanwhile, which might just take what is let go of
                self._count(1)
                if self._shards == 1:
                    self._forget(run)
            yield
        finally:
            self._count(-1)
            RUN.reset(before)

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
        return max(1, processors() // max(1, claimed(WORKING)))

    def once(self, key: Hashable, load: Callable[[], T], stays: bool = False) -> T:
        """What ``load`` returns, called once for each run and key; again where it raised.

        Args:
            key: what it is.
            load: how it is made.
            stays: whether the key says all that it is made of, so that other runs may use it too.
        """
        run = RUN.get()
        scoped = key if stays else (run, key)
        loaded = self._loaded.get(scoped)
        if loaded is None:
            with self._loading:
                loaded = self._loaded.get(scoped)
                if loaded is None:
                    with uncollected():  # a network brings its libraries
                        loaded = self._loaded[scoped] = _Loaded(load(), run, 0)
        loaded.run, loaded.used = run, time.monotonic()
        return cast(T, loaded.value)

    def _forget(self, run: str) -> None:
        """Let go of what only other runs have used, if not of late; it is closed where it can be."""
        with self._loading:
            late = time.monotonic() - KEEP_SECONDS
            gone = [key for key, loaded in self._loaded.items() if loaded.run != run and loaded.used < late]
            for value in [self._loaded.pop(key).value for key in gone]:
                if hasattr(value, "close"):
                    value.close()
        torch = sys.modules.get("torch")
        if gone and torch and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what networks took of a GPU

    def device(self, name: str) -> str:
        """A device of this machine; of several GPUs, ``cuda`` is the one that falls to this worker.

        Raises:
            MillError: this machine has no such device.
        """
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
        device = self.device(place.device)
        prepare_process(place)
        return replace(place, device=device)


@functools.cache
def this_worker() -> Worker:
    """The worker that this process is."""
    return Worker()
