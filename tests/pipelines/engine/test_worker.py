"""What a process loads once, for all threads."""

from __future__ import annotations

import gc
import re
import socket
import sys
import threading
import time
import uuid
import weakref
from pathlib import Path

import pytest

from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines.engine import claims
from controlmill.pipelines.engine import worker as worker_module
from controlmill.pipelines.engine.pools import codec_pool
from controlmill.pipelines.engine.worker import Worker, this_worker
from controlmill.schemas.errors import MillError
from controlmill.schemas.machine import processors

LINUX = sys.platform == "linux"


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


def test_what_is_loaded_for_a_run_is_loaded_anew_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may find other files; networks, whose key says their bytes, stay as long as any run uses them."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    worker, files, loads = Worker(), [], []

    def work(run: str, seconds: float) -> tuple[int, str]:
        with worker.shard(run):
            now[0] += seconds
            network = worker.once("network", lambda: loads.append(run) or run, stays=True)
            worker.once("files", lambda: files.append(File()) or files[-1])
            return len(files), network

    class File:
        closed = False

        def close(self) -> None:
            self.closed = True

    assert work("a", 1) == (1, "a")
    now[0] += 1000  # a shard that takes long, of which this is but a part
    assert [work("a", 1), work("b", 1), work("a", 1)] == [(1, "a"), (2, "a"), (2, "a")]
    assert work("b", 200) == (2, "a")
    assert work("b", 200) == (2, "a")
    assert work("b", 200) == (2, "a")  # 600 seconds since a used its file
    assert [file.closed for file in files] == [True, False]
    now[0] += 1000
    assert work("c", 1) == (3, "c")
    assert [file.closed for file in files] == [True, True, False]
    assert loads == ["a", "c"]


def test_what_refers_to_itself_goes_when_it_is_let_go_of_as_networks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "KEEP_SECONDS", -1)

    class Network:
        def __init__(self) -> None:
            self.module = self

    worker = Worker()
    with worker.shard("a"):
        network = weakref.ref(worker.once("network", Network, stays=True))
    gc.collect()
    assert network()
    with worker.shard("b"):
        gc.collect()
        assert not network()


def test_no_shard_begins_while_something_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It might take what is being closed."""
    monkeypatch.setattr(worker_module, "KEEP_SECONDS", -1)  # whatever another run has used
    worker, closing, go_on, begun = Worker(), threading.Event(), threading.Event(), threading.Event()

    class File:
        def close(self) -> None:
            closing.set()
            assert go_on.wait(10)

    def work(run: str) -> None:
        with worker.shard(run):
            if run == "c":
                begun.set()

    with worker.shard("a"):
        worker.once("file", File, stays=True)
    threads = [threading.Thread(target=work, args=(run,)) for run in "bc"]
    threads[0].start()
    assert closing.wait(10)
    threads[1].start()
    assert not begun.wait(0.1)
    go_on.set()
    for thread in threads:
        thread.join()
    assert begun.is_set()


def test_a_process_is_one_worker() -> None:
    assert this_worker() is this_worker()


def test_workers_of_a_machine_have_places_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """So GPUs are dealt out on any engine; a place is free again when its process has ended."""
    monkeypatch.setattr(claims, "OURS", f"controlmill-test-{uuid.uuid4().hex}-")
    workers = [Worker() for _ in range(3)]
    assert [worker.index for worker in workers] == [0, 1, 2] if LINUX else [0, 0, 0]
    assert workers[1].index == workers[1].index
    del workers[1]
    gc.collect()
    assert Worker().index == (1 if LINUX else 0)


def test_where_processes_cannot_see_each_other_each_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(claims, "BOUND", Path("nowhere"))
    assert [Worker().index, Worker().index] == [0, 0]
    assert Worker().threads() == processors()


@pytest.mark.skipif(not LINUX, reason="elsewhere processes cannot see each other")
def test_cores_are_shared_by_the_workers_that_have_shards_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "OURS", f"controlmill-test-{uuid.uuid4().hex}-")
    monkeypatch.setattr("controlmill.pipelines.engine.worker.processors", lambda: 9)
    one, other = Worker(), Worker()
    with one.shard("run"):
        assert one.threads() == 9
        with one.shard("run"), other.shard("another"):  # another shard of a process shares what falls to the process
            assert (one.threads(), one.shards) == (4, 2)
            assert (other.threads(), other.shards) == (4, 1)
        assert one.threads() == 9
    assert (one.shards, other.shards) == (0, 0)


def test_a_device_that_a_worker_lacks_is_said_with_its_machine() -> None:
    with pytest.raises(MillError, match=rf"^on {re.escape(socket.gethostname())}: --device cuda:99: this machine has"):
        this_worker().prepare(Placement("cuda:99"))
    assert this_worker().prepare(Placement()) == Placement()


def test_shards_of_two_runs_at_once_have_each_what_is_of_its_own_run() -> None:
    """As where two commands share a cluster whose workers do two shards at a time; codec threads are of their shard."""
    both = threading.Barrier(2)
    found: dict[str, list[str]] = {}

    def work(run: str) -> None:
        with this_worker().shard(run):
            both.wait(10)
            here = this_worker().once("whose", lambda: run)
            pool = codec_pool(2)
            there = pool.submit(this_worker().once, "whose too", lambda: run).result()
            pool.shutdown()
            both.wait(10)
            found[run] = [here, there]

    threads = [threading.Thread(target=work, args=(run,)) for run in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"one": ["one", "one"], "other": ["other", "other"]}
