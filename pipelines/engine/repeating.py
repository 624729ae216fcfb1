"""What is done again and again beside other work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(call: Callable[[], object], seconds: float) -> Iterator[None]:
    """While the block lasts, call a function in a thread of its own after so many seconds, and again after as many.

    The block's end waits for a call that is under way. A call that raises is the last.
    """
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(seconds):
            call()

    thread = threading.Thread(target=again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
