"""Reader processes that fail end with an error, and leave no process that the trainer would wait for."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from typing import Any

import pytest

from controlmill.schemas.errors import MillError
from controlmill.training.data.processes import batches


class Full:
    """A loader whose worker finds no room."""

    def batches(self, *_: Any) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


class Killed:
    """A loader whose worker is killed, as for want of memory."""

    def batches(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_reader_that_is_killed_is_one_message() -> None:
    with pytest.raises(MillError, match=r"a process that reads was killed \(DataLoader worker .*--resume and fewer"):
        next(batches(Killed(), workers=1))


def test_a_full_shared_memory_is_one_message_and_ends_the_readers() -> None:
    before = multiprocessing.active_children()
    read = batches(Full(), workers=1)
    with pytest.raises(MillError, match=r"--loader-workers: no room in /dev/shm.*No space left on device.*--shm-size"):
        next(read)
    gc.disable()  # what is still referred to by the error is ended all the same
    try:
        assert multiprocessing.active_children() == before
    finally:
        gc.enable()
