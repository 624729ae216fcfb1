"""Executors that rows are worked on in: codec threads, the caller's own thread, or what waits first and works then."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .worker import RUN


class Inline:
    """An executor that works at once, in the caller's thread."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Call now; the future is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing to do."""


def codec_pool(threads: int) -> ThreadPoolExecutor | Inline:
    """Threads for decoding and encoding; with one thread they take turns with the network in the caller's."""
    return _codec_threads(threads) if threads > 1 else Inline()


def _codec_threads(threads: int) -> ThreadPoolExecutor:
    """Threads of the shard that the caller works on."""
    return ThreadPoolExecutor(threads, thread_name_prefix="codec", initializer=RUN.set, initargs=(RUN.get(),))


class Fetching:
    """What a row needs is begun to be fetched, without a thread that waits for it; then codec threads use it.

    Args:
        fetch: row → a future of what it needs.
        use: (row, what was fetched) → its result.
        threads: for ``use``, at least one: a fetched row is never used in the thread that fetched it.
    """

    def __init__(self, fetch: Callable[[Any], Future[Any]], use: Callable[[Any, Any], Any], threads: int) -> None:
        self.fetch = fetch
        self.use = use
        self.codecs = _codec_threads(threads)
        self._fetched: set[Future[Any]] = set()

    def submit(self, _: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Begin a row, which is all of ``args``."""
        (row,) = args
        result: Future[Any] = Future()
        fetched = self.fetch(row)
        self._fetched.add(fetched)
        fetched.add_done_callback(lambda done: self._go_on(row, done, result))
        return result

    def _go_on(self, row: Any, fetched: Future[Any], result: Future[Any]) -> None:
        self._fetched.discard(fetched)
        if fetched.cancelled():
            result.cancel()
        elif error := fetched.exception():
            result.set_exception(error)
        else:
            try:
                self.codecs.submit(self._use, row, fetched.result(), result)
            except RuntimeError:  # shut down
                result.cancel()

    def _use(self, row: Any, fetched: Any, result: Future[Any]) -> None:
        try:
            result.set_result(self.use(row, fetched))
        except BaseException as error:
            result.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End; what is being fetched is given up."""
        for fetched in list(self._fetched):
            fetched.cancel()
        self.codecs.shutdown(wait, cancel_futures=cancel_futures)


Pool = ThreadPoolExecutor | Inline | Fetching
