"""Reader processes, for when threads are not enough: each reads its share of every batch; here they are joined."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .loader import Loader, Sample


class _Shares(IterableDataset):  # type: ignore[type-arg]
    def __init__(self, loader: Loader, first_step: int, reader: int, readers: int):
        self.loader, self.first_step, self.reader, self.readers = loader, first_step, reader, readers

    def __iter__(self) -> Iterator[list[Sample]]:
        worker: Any = get_worker_info()
        reader = self.reader + self.readers * worker.id
        return self.loader.batches(self.first_step, reader, self.readers * worker.num_workers)


def batches(
    loader: Loader, first_step: int = 0, reader: int = 0, readers: int = 1, workers: int = 0
) -> Generator[list[Sample], None, None]:
    """As :meth:`Loader.batches`, with ``workers`` processes reading and decoding; the same batches for any number."""
    if not workers:
        yield from loader.batches(first_step, reader, readers)
        return
    shares = iter(
        DataLoader(
            _Shares(loader, first_step, reader, readers),
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            multiprocessing_context="spawn",  # forked children of threaded libraries hang
        )
    )
    while True:  # DataLoader asks its workers in turn
        parts = [next(shares) for _ in range(workers)]
        size = sum(len(part) for part in parts)
        yield [parts[i % workers][i // workers] for i in range(size)]


def _as_it_is(samples: list[Sample]) -> list[Sample]:
    return samples
