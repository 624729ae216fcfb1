"""Rows through a step: order, full batches, bisection, bounded queues, memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.pipelines.engine import rows as rows_module
from controlmill.pipelines.engine.faults import DeviceFault, Failure, JobFault, OutOfMemory, failure_of
from controlmill.pipelines.engine.rows import BatchStep, RowStep, run_row, run_rows
from controlmill.schemas.errors import Refused


class Step(BatchStep):
    """Rows are (number, shape, fault); results are number * 10."""

    batch_size = 0

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.batches: list[list[Any]] = []
        self.loading = self.most = 0
        self.lock = threading.Lock()

    def cost(self, row: Any) -> int:
        return 1000

    def load(self, row: Any) -> Any:
        with self.lock:
            self.loading += 1
            self.most = max(self.most, self.loading)
        if row[2] == "load":
            raise ValueError("bad input")
        return row

    def shape(self, item: Any) -> Any:
        return item[1]

    def forward(self, items: list[Any]) -> list[Any]:
        assert len(items) == self.batch_size
        assert len({item[1] for item in items}) == 1
        self.batches.append(items)
        if any(item[2] == "memory" for item in items):
            raise MemoryError("too large")
        if any(item[2] == "forward" for item in items):
            raise RuntimeError("bad row")
        return [item[0] * 10 for item in items]

    def finish(self, row: Any, item: Any, output: Any) -> Any:
        with self.lock:
            self.loading -= 1
        if row[2] == "finish":
            raise KeyError("late")
        return output


class Alone(RowStep):
    """The same without a network."""

    def cost(self, row: Any) -> int:
        return 1000

    def do(self, row: Any) -> Any:
        if row[2] in ("load", "finish"):
            raise ValueError("bad input")
        return row[0] * 10


FAULTS = st.sampled_from(["", "", "", "", "load", "forward", "finish"])


@settings(max_examples=200)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), FAULTS), max_size=40),
    batch_size=st.integers(0, 8),
    threads=st.integers(1, 4),
)
def test_every_row_has_one_outcome_in_its_place(rows: list[tuple[str, str]], batch_size: int, threads: int) -> None:
    numbered = [(number, shape, fault) for number, (shape, fault) in enumerate(rows)]
    step = Step(batch_size) if batch_size else Alone()
    found = list(run_rows(step, numbered, threads, lambda: None))
    assert found == [run_row(step, row) for row in numbered]
    assert len(found) == len(rows)
    for (number, _, fault), outcome in zip(numbered, found, strict=True):
        if fault and not (fault == "forward" and not batch_size):
            assert isinstance(outcome, Failure)
            assert outcome.reason == "failed"
        else:
            assert outcome == number * 10


def test_batches_are_always_full_and_a_bad_row_is_bisected_out() -> None:
    step = Step(8)
    found = list(run_rows(step, [(n, "a", "forward" if n == 5 else "") for n in range(11)], 1, lambda: None))
    assert [n for n, outcome in enumerate(found) if isinstance(outcome, Failure)] == [5]
    assert found[5] == Failure("failed", "RuntimeError: bad row")
    assert len(step.batches) == 1 + 2 * 3 + 1  # whole; halves down to the row; the tail


def test_running_out_of_memory_stops_the_job_instead_of_changing_the_batch() -> None:
    with pytest.raises(OutOfMemory, match="too large"):
        list(run_rows(Step(4), [(n, "a", "memory" if n == 2 else "") for n in range(8)], 1, lambda: None))


@pytest.mark.parametrize("said", ["CUDA error: an illegal memory access", "MPS backend out of memory", "ALLOC_FAILED"])
def test_a_fault_of_the_device_is_no_fault_of_the_row(said: str) -> None:
    """A sticky error fails every later forward pass of the process: nulls for rows that are sound."""

    class Broken(Step):
        def forward(self, items: list[Any]) -> list[Any]:
            raise RuntimeError(said)

    with pytest.raises(DeviceFault if "CUDA" in said else OutOfMemory, match=said):
        list(run_rows(Broken(4), [(n, "a", "") for n in range(8)], 1, lambda: None))


def test_a_batch_waits_for_bytes_rather_than_be_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are being encoded hold the memory; running a part of a batch would give none back."""
    monkeypatch.setattr(rows_module, "IN_FLIGHT_BYTES", 6_000)

    class Slow(Step):
        def finish(self, row: Any, item: Any, output: Any) -> Any:
            time.sleep(0.01)
            return super().finish(row, item, output)

    step = Slow(4)
    assert len(list(run_rows(step, [(n, "a", "") for n in range(40)], 4, lambda: None))) == 40
    assert len(step.batches) == 10


def test_queues_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in ((10**9, 20), (3000, 10)):
        monkeypatch.setattr(rows_module, "IN_FLIGHT_BYTES", limit)
        step = Step(2)
        for _ in run_rows(step, [(n, "a", "") for n in range(200)], 4, lambda: None):
            pass
        assert step.most <= most


def test_shards_in_flight_share_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "IN_FLIGHT_BYTES", 10_000)
    step = Step(2)

    def run() -> None:
        for _ in run_rows(step, [(n, "a", "") for n in range(200)], 8, lambda: None, sharers=lambda: 2):
            pass

    shards = [threading.Thread(target=run) for _ in range(2)]
    for shard in shards:
        shard.start()
    for shard in shards:
        shard.join()
    assert len(step.batches) >= 200
    assert step.most <= 10


def test_pictures_of_many_shapes_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "IN_FLIGHT_BYTES", 10_000)
    for threads in (1, 4):
        step = Step(4)
        found = list(run_rows(step, [(n, n % 50, "") for n in range(200)], threads, lambda: None))
        assert found == [n * 10 for n in range(200)]
        assert step.most <= 10


def test_running_out_of_memory_in_a_codec_thread_stops_the_job_too() -> None:
    import cv2

    class NoMemory(Step):
        def finish(self, row: Any, item: Any, output: Any) -> Any:
            error = cv2.error("Insufficient memory")
            error.code = -4
            return failure_of(error)  # as a step with several results does

    for threads in (1, 3):
        with pytest.raises(OutOfMemory, match="Insufficient memory"):
            list(run_rows(NoMemory(2), [(n, "a", "") for n in range(4)], threads, lambda: None))


def test_a_stop_is_noticed_before_the_next_row() -> None:
    seen = []

    def check() -> None:
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        for outcome in run_rows(Alone(), [(n, "a", "") for n in range(100)], 1, check):
            seen.append(outcome)
    assert seen == [0, 10, 20]


class Fetched(RowStep):
    """Rows are numbers; each is fetched when the test says so. Results are texts of ``size`` bytes."""

    fetches = 8

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.begun: dict[int, Future[Any]] = {}
        self.uses: set[str] = set()
        self.lock = threading.Lock()

    def cost(self, row: int) -> int:
        return self.size

    def fetch(self, row: int) -> Future[Any]:
        with self.lock:
            self.begun[row] = Future()
        if row % 7 != 0:  # each seventh is slow: it is there when many after it are begun
            self.arrive(row)
        return self.begun[row]

    def arrive(self, row: int) -> None:
        if row % 5 == 4:
            self.begun[row].set_exception(Refused("timeout", "no answer"))
        else:
            self.begun[row].set_result(f"fetched {row}")

    def use(self, row: int, fetched: str) -> str:
        self.uses.add(threading.current_thread().name)
        return f"{fetched} used"

    def do(self, row: int) -> str:
        future = self.fetch(row)
        if not future.done():
            self.arrive(row)
        return self.use(row, future.result())

    def held(self, result: str) -> int:
        return self.size


def arriving(step: Fetched, ended: threading.Event) -> threading.Thread:
    """Lets slow rows arrive when nothing else happens any more."""

    def run() -> None:
        while not ended.wait(0.002):
            with step.lock:
                late = [row for row, future in step.begun.items() if not future.done()]
            if late:
                step.arrive(late[0])

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_fetched_ahead_is_used_in_codec_threads_and_given_back_in_order(threads: int) -> None:
    step, ended = Fetched(), threading.Event()
    thread = arriving(step, ended)
    found = list(run_rows(step, range(60), threads, lambda: None))
    ended.set()
    thread.join()
    assert found == [run_row(Fetched(), row) for row in range(60)]
    assert [type(outcome).__name__ for outcome in found].count("Failure") == 12
    assert all(name.startswith("codec") for name in step.uses)
    assert len(step.uses) <= threads


def test_slow_rows_hold_up_no_others_as_far_as_there_is_room() -> None:
    """The first row never comes: others are fetched and used meanwhile, as many as wait at most, or fit into memory."""
    for size, most in ((1, 4 * Fetched.fetches + 1), (rows_module.IN_FLIGHT_BYTES // 10, 13)):
        step, looks = Fetched(size), 0

        def check(step: Fetched = step) -> None:
            nonlocal looks
            looks += 1
            if looks > len(step.begun) + 2:  # it waits
                raise JobFault("enough")

        with mock.patch.object(rows_module, "CHECK_SECONDS", 0.01), pytest.raises(JobFault, match="enough"):
            list(run_rows(step, (row * 7 + (row > 0) for row in range(500)), 2, check))
        assert 10 <= len(step.begun) <= most
        assert step.begun[0].cancelled()


def test_a_job_that_stops_gives_up_what_it_waits_for() -> None:
    step = Fetched()

    def check() -> None:
        if step.begun:
            raise JobFault("stopped")

    with mock.patch.object(rows_module, "CHECK_SECONDS", 0.01), pytest.raises(JobFault, match="stopped"):
        list(run_rows(step, [0, 7, 14], 2, check))
    assert step.begun[0].cancelled()
