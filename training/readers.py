"""Reader processes, for when threads are not enough: each reads its share of every batch; here they are joined.

Arrays cross over in shared memory: a worker lays those of its share end to end in one block; here they are views of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .loader import Loader, Sample

ALIGNED = 64  # bytes; an array begins at a multiple
Block = tuple[bytes, list[tuple[int, int]], torch.Tensor]


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
            collate_fn=_packed,
            multiprocessing_context="spawn",  # forked children of threaded libraries hang
        )
    )
    while True:  # DataLoader asks its workers in turn
        parts = [_unpacked(*next(shares)) for _ in range(workers)]
        size = sum(len(part) for part in parts)
        yield [parts[i % workers][i // workers] for i in range(size)]


def _packed(samples: list[Sample]) -> Block:
    """(pickled samples without their arrays, where in the block each array is, the block in shared memory)."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(samples, protocol=5, buffer_callback=arrays.append)
    places, end = [], 0
    for array in arrays:
        places.append((end, end + array.raw().nbytes))
        end = -(-places[-1][1] // ALIGNED) * ALIGNED
    block = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(max(end, 1)))  # type: ignore
    target = block.numpy().data
    for array, (first, last) in zip(arrays, places, strict=True):
        target[first:last] = array.raw()
    return head, places, block


def _unpacked(head: bytes, places: list[tuple[int, int]], block: torch.Tensor) -> list[Sample]:
    stored = block.numpy().data
    samples: list[Sample] = pickle.loads(head, buffers=[stored[first:last] for first, last in places])  # noqa: S301
    return samples
