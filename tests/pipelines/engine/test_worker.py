"""What a process loads once, for all threads."""

from __future__ import annotations

import threading
import time

import pytest

from controlmill.pipelines.engine.worker import Worker, this_worker


def test_threads_that_ask_together_load_once() -> None:
    worker, loads = Worker(), []

    def load() -> str:
        time.sleep(0.05)
        loads.append(worker.once("inner", lambda: "inner"))  # what is loaded may need something else
        return "outer"

    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(worker.once("outer", load))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["outer"] * 4
    assert loads == ["inner"]


def test_what_could_not_be_loaded_is_tried_again() -> None:
    worker = Worker()

    def fail() -> int:
        raise OSError("no weights")

    with pytest.raises(OSError, match="no weights"):
        worker.once("network", fail)
    assert worker.once("network", lambda: 1) == 1


def test_a_process_is_one_worker_and_the_first_without_a_cluster() -> None:
    assert this_worker() is this_worker()
    assert this_worker().index == 0
