"""Batches that are made ready ahead: the same ones in the same order, errors where they are due, and an end."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest

from controlmill.training.data.ahead import ahead


def endless(closed: list[bool] | None = None) -> Generator[Any, None, None]:
    number = 0
    try:
        while True:
            yield [number]
            number += 1
    finally:
        if closed is not None:
            closed.append(True)


def test_batches_come_in_order_from_another_thread() -> None:
    threads = set()

    def prepare(batch: Any) -> Any:
        threads.add(threading.current_thread())
        return batch[0]

    made = ahead(endless(), prepare)
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    made.close()
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_the_next_batch_is_made_while_one_is_worked_on() -> None:
    third = threading.Event()

    def prepare(batch: Any) -> Any:
        if batch[0] == 2:
            third.set()
        return batch[0]

    made = ahead(endless(), prepare)
    assert [next(made), next(made)] == [0, 1]
    assert third.wait(10)
    made.close()


def test_an_error_is_raised_where_its_batch_is_taken_and_the_source_is_closed() -> None:
    closed: list[bool] = []

    def prepare(batch: Any) -> Any:
        if batch[0] == 1:
            raise ValueError("row 1 is damaged")
        return batch[0]

    made = ahead(endless(closed), prepare)
    assert next(made) == 0
    with pytest.raises(ValueError, match="row 1 is damaged"):
        next(made)
    assert closed == [True]


def test_closing_waits_for_the_batch_that_is_being_made() -> None:
    closed: list[bool] = []
    made = ahead(endless(closed), lambda batch: threading.Event().wait(0.05))
    next(made)
    made.close()
    assert closed == [True]
