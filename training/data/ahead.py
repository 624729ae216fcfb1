"""The next batch is made ready in a thread while the device works on the one before."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from controlmill.evaluation.rows import Sample

T = TypeVar("T")


def ahead(
    source: Generator[list[Sample], None, None], prepare: Callable[[list[Sample]], T]
) -> Generator[T, None, None]:
    """What ``prepare`` makes of each batch of an endless ``source``, in order; one is made ahead.

    What either raises is raised where the batch is taken. Closing waits for the batch that is being made, then closes
    the source.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    def one() -> T:
        return prepare(next(source))

    try:
        made = pool.submit(one)
        while True:
            ready = made.result()
            made = pool.submit(one)
            yield ready
    finally:
        pool.shutdown(cancel_futures=True)
        source.close()
