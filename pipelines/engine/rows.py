"""A shard's rows through a step: loaded ahead, batched by shape, bisected on failure, given back in order.

A batch is always full: tails and the halves of a failed batch are padded by repetition, because the bits of a row
depend on the size of its batch (not on what else is in it). So one bad row changes nothing for the other seven.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from .faults import Failure, failure_of
from .pools import Fetching, Pool, codec_pool

IN_FLIGHT_BYTES = 512 * 1024 * 1024  # of a process
CHECK_SECONDS = 1  # between looks, while a row is waited for, whether the job is to stop


class RowStep(ABC):
    """What is done to each row, without a network. A step is picklable; what it loads, it loads once per process.

    Where a row has to be waited for (a download), ``fetches`` are begun at a time by :meth:`fetch`, beside the codec
    threads, and :meth:`use` does the work when it is there.
    """

    @property
    def fetches(self) -> int:
        """Rows that are waited for at a time; 0: none, :meth:`do` does all."""
        return 0

    def fetch(self, row: Any) -> Future[Any]:
        """Begin to fetch what the row needs, without waiting; the future may be cancelled."""
        raise NotImplementedError

    def use(self, row: Any, fetched: Any) -> Any:
        """The row's result, of what was fetched. Runs in codec threads."""
        raise NotImplementedError

    def held(self, result: Any) -> int:
        """About how many bytes a result takes while it waits for its turn; small ones need not count."""
        return 0

    @abstractmethod
    def cost(self, row: Any) -> int:
        """About how many bytes the row takes while it is worked on."""

    @abstractmethod
    def do(self, row: Any) -> Any:
        """The row's result. Runs in codec threads."""


class BatchStep(RowStep):
    """What is done to each row by a network that takes batches of one size."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Items in a batch, at least 1."""

    @abstractmethod
    def load(self, row: Any) -> Any:
        """The row's input, decoded. Runs in codec threads."""

    @abstractmethod
    def shape(self, item: Any) -> Hashable:
        """Items of one shape may share a batch."""

    @abstractmethod
    def forward(self, items: list[Any]) -> list[Any]:
        """Outputs of a full batch."""

    @abstractmethod
    def finish(self, row: Any, item: Any, output: Any) -> Any:
        """The row's result. Runs in codec threads."""

    def do(self, row: Any) -> Any:
        """The row's result, by a batch that holds nothing else."""
        item = self.load(row)
        return self.finish(row, item, self.forward([item] * self.batch_size)[0])


def run_row(step: RowStep, row: Any) -> Any:
    """The result, or the :class:`Failure`, of one row, at once; the same as :func:`run_rows` gives.

    Raises:
        Exception: it was no fault of the row; see :func:`faults.failure_of`.
    """
    try:
        return step.do(row)
    except Exception as error:
        return failure_of(error)


def run_rows(
    step: RowStep,
    rows: Iterable[Any],
    threads: int,
    check: Callable[[], None],
    sharers: Callable[[], int] = lambda: 1,
) -> Iterator[Any]:
    """The result, or the :class:`Failure`, of every row, in order. ``check`` is called for each row and may raise.

    ``sharers`` says how many calls this process has in flight, this one included: they share threads (as many as there
    are when the call begins) and memory evenly.
    """
    threads = -(-threads // sharers())
    pool: Pool = Fetching(step.fetch, step.use, threads) if step.fetches else codec_pool(threads)
    limit = 4 * step.fetches or (1 if threads == 1 else 2 * threads)
    try:
        yield from _Flow(step, pool, limit, sharers, check).run(rows)
    finally:
        pool.shutdown(cancel_futures=True)


class _Flow:
    """Rows on their way: ``ahead`` are being loaded, ``waiting`` for their batch to fill, ``outcomes`` for their turn.

    What they hold is counted in bytes, from the start of loading until the result is there.
    """

    def __init__(self, step: RowStep, pool: Pool, limit: int, sharers: Callable[[], int], check: Callable[[], None]):
        self.step = step
        self.network = step if isinstance(step, BatchStep) else None
        self.pool = pool
        self.limit = limit
        self.sharers = sharers
        self.check = check
        self.ahead: deque[tuple[int, Any, Future[Any]]] = deque()
        self.waiting: dict[Hashable, list[tuple[int, Any, Any]]] = {}
        self.outcomes: dict[int, Future[Any] | Failure] = {}
        self.costs: dict[int, int] = {}
        self.results: dict[int, int] = {}  # what finished ones hold until their turn
        self.next = 0

    def run(self, rows: Iterable[Any]) -> Iterator[Any]:
        for index, row in enumerate(rows):
            self.check()
            cost = self.step.cost(row)
            while len(self.ahead) >= self.limit:
                self._advance()
            while (self.costs or self.results) and self._held() + cost > IN_FLIGHT_BYTES // self.sharers():
                self._free()
                yield from self._ready(wait_beyond=self.limit)
            self.costs[index] = cost
            if self.network:
                self.ahead.append((index, row, self.pool.submit(self.network.load, row)))
                if self.limit == 1:
                    self._advance()
            else:
                self.outcomes[index] = self.pool.submit(self.step.do, row)
            yield from self._ready(wait_beyond=self.limit)
        while self.ahead or self.waiting:
            self._advance()
            yield from self._ready(wait_beyond=self.limit)
        yield from self._ready(wait_beyond=0)

    def _held(self) -> int:
        """Bytes of the rows that have no result yet, and of results that wait for their turn."""
        for index in [index for index in self.costs if self._done(index)]:
            del self.costs[index]
            outcome = self.outcomes.get(index)
            if isinstance(outcome, Future) and not outcome.exception() and (held := self.step.held(outcome.result())):
                self.results[index] = held
        return sum(self.costs.values()) + sum(self.results.values())

    def _done(self, index: int) -> bool:
        outcome = self.outcomes.get(index)
        return index < self.next or isinstance(outcome, Failure) or (outcome is not None and outcome.done())

    def _advance(self) -> None:
        """Bring the rows on their way one step on: the oldest first."""
        if self.ahead:
            assert self.network
            self._take(self.network, *self.ahead.popleft())
        elif self.waiting and self.network:
            self._forward(self.network, self.waiting.pop(next(iter(self.waiting))))
        else:
            self._wait(self._pending())

    def _wait(self, pending: list[Future[Any]]) -> None:
        """Until one of some rows is done, or the job is to stop."""
        while pending and not wait(pending, CHECK_SECONDS, FIRST_COMPLETED).done:
            self.check()

    def _free(self) -> None:
        """Bring rows on until some give back their bytes; a batch that is not full runs only if nothing else can."""
        pending = self._pending()
        if not self.ahead and pending:
            self._wait(pending)
        else:
            self._advance()

    def _pending(self) -> list[Future[Any]]:
        return [found for found in self.outcomes.values() if isinstance(found, Future) and not found.done()]

    def _take(self, step: BatchStep, index: int, row: Any, loading: Future[Any]) -> None:
        """Wait for a row's input and run its batch when that is full."""
        error = loading.exception()
        if error is not None:
            self.outcomes[index] = failure_of(error)
            return
        item = loading.result()
        shape = step.shape(item)
        batch = self.waiting.setdefault(shape, [])
        batch.append((index, row, item))
        if len(batch) == step.batch_size:
            self._forward(step, self.waiting.pop(shape))

    def _forward(self, step: BatchStep, batch: list[tuple[int, Any, Any]]) -> None:
        items = [item for _, _, item in batch]
        padded = items + [items[-1]] * (step.batch_size - len(items))
        try:
            outputs = step.forward(padded)
        except Exception as error:
            failure = failure_of(error)
            if len(batch) == 1:
                self.outcomes[batch[0][0]] = failure
                return
            half = len(batch) // 2
            self._forward(step, batch[:half])
            self._forward(step, batch[half:])
            return
        for (index, row, item), output in zip(batch, outputs, strict=False):
            self.outcomes[index] = self.pool.submit(step.finish, row, item, output)

    def _ready(self, wait_beyond: int) -> Iterator[Any]:
        """Outcomes in order, as far as they are known; waits where more than ``wait_beyond`` are pending."""
        while (outcome := self.outcomes.get(self.next)) is not None:
            if isinstance(outcome, Future):
                if not outcome.done() and len(self.outcomes) <= wait_beyond:
                    return
                self._wait([outcome])
                error = outcome.exception()
                result = outcome.result() if error is None else failure_of(error)
            else:
                result = outcome
            del self.outcomes[self.next]
            self.results.pop(self.next, None)
            self.next += 1
            yield result
