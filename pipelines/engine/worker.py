"""This process as a worker: its place among other workers, and what it loads once for all its shards."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar, cast

import cv2

from controlmill.annotators.runtime.placement import Placement

T = TypeVar("T")


class Worker:
    """What one process holds: see :func:`this_worker`. Its shards may be in several threads.

    ``forward_lock`` is held while a network runs, so that networks take turns.
    """

    def __init__(self) -> None:
        cv2.setNumThreads(1)  # codec threads are the parallelism
        self.forward_lock = threading.Lock()
        self._loaded: dict[Hashable, Any] = {}
        self._loading = threading.RLock()  # what is loaded may need something else that is loaded

    @property
    def index(self) -> int:
        """Which of a cluster's workers this process is; 0 without a cluster."""
        distributed = sys.modules.get("distributed")  # where it is not loaded there is no cluster
        try:
            return int(distributed.get_worker().name) if distributed else 0
        except ValueError:  # no worker, or one with a name of its own
            return 0

    def once(self, key: Hashable, load: Callable[[], T]) -> T:
        """What ``load`` returns, called once for each key; again where it raised."""
        if key not in self._loaded:
            with self._loading:
                if key not in self._loaded:
                    self._loaded[key] = load()
        return cast(T, self._loaded[key])

    def prepare(self, place: Placement) -> Placement:
        """Prepare this process (threads of networks, arithmetic) for a placement; the same one on this worker's device.

        Of several GPUs, ``cuda`` is the one that falls to this worker.
        """
        from controlmill.annotators.runtime.torch_device import device_of_worker, prepare_process

        prepare_process(place)
        return replace(place, device=device_of_worker(place.device, self.index))


@functools.cache
def this_worker() -> Worker:
    """The worker that this process is."""
    return Worker()
