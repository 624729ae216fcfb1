"""Reader processes, for when threads are not enough: each reads its share of every batch; here they are joined.

Arrays cross over in shared memory: a worker lays those of its share end to end in a block; here they are views of it.
Fresh pages are dear, so a block is used again once no view of it is left: its first byte says whether one is.
"""

from __future__ import annotations

import pickle
import signal
import weakref
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from controlmill.annotators.runtime.torch_device import keep_freed_memory
from controlmill.evaluation.rows import Sample
from controlmill.schemas.errors import MillError
from controlmill.schemas.machine import SHARED

from .loader import Loader

ALIGNED = 64  # bytes; an array begins at a multiple
BLOCKS = 16  # that a worker uses again; more than are under way unless batches are kept
NO_ROOM = ("No space left on device", "out of shared memory")  # what PyTorch says of a full /dev/shm
DIED = ("exited unexpectedly", "is killed by signal")  # and of a worker that is gone
Block = tuple[bytes, list[tuple[int, int]], torch.Tensor]


class Shares(IterableDataset):
    """A worker's share of every batch, and the error that ends them."""

    def __init__(self, loader: Loader, first_step: int, reader: int, readers: int):
        self.loader, self.first_step, self.reader, self.readers = loader, first_step, reader, readers

    def __iter__(self) -> Iterator[list[Sample] | MillError]:
        worker: Any = get_worker_info()
        reader = self.reader + self.readers * worker.id
        try:
            yield from self.loader.batches(self.first_step, reader, self.readers * worker.num_workers)
        except MillError as error:  # as it is: DataLoader would put a traceback into its text
            yield error


def batches(
    loader: Loader, first_step: int = 0, reader: int = 0, readers: int = 1, workers: int = 0
) -> Generator[list[Sample], None, None]:
    """As :meth:`Loader.batches`, with ``workers`` processes reading and decoding; the same batches for any number."""
    if not workers:
        yield from loader.batches(first_step, reader, readers)
        return
    shares: Any = iter(
        DataLoader(
            Shares(loader, first_step, reader, readers),
            batch_size=None,
            num_workers=workers,
            collate_fn=Packer(),
            multiprocessing_context="spawn",  # forked children of threaded libraries hang
            worker_init_fn=_begin,
        )
    )
    try:
        while True:  # DataLoader asks its workers in turn
            parts = [unpacked(*next_share(shares)) for _ in range(workers)]
            size = sum(len(part) for part in parts)
            yield [parts[i % workers][i // workers] for i in range(size)]
    finally:  # an error that is on its way keeps the iterator, and the process would wait for its workers for ever
        shares._shutdown_workers()


def next_share(shares: Iterator[Any]) -> Any:
    """The next share of a batch.

    Raises:
        MillError: a worker could not read a row, found no room in shared memory, or was killed.
    """
    try:
        share = next(shares)
    except RuntimeError as error:
        said = str(error).splitlines()[-1][:200]  # before it is the traceback of another process
        if any(words in said for words in DIED):
            raise MillError(
                f"--loader-workers: a process that reads was killed ({said}), perhaps for want of memory: go on with "
                "--resume and fewer of them"
            ) from error
        if not any(words in str(error) for words in NO_ROOM):
            raise
        raise MillError(
            f"--loader-workers: no room in {SHARED}, where readers put what they read ({said}). Make room "
            "(in Docker: --shm-size=1g), or leave --loader-workers out: threads read then"
        ) from error
    if isinstance(share, MillError):
        raise share
    return share


def _begin(worker: int) -> None:
    """Ctrl-C reaches the whole process group; a reader ends with the trainer, which first writes its checkpoint."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()


def _new_block(size: int) -> torch.Tensor:
    """uint8 (size,), zeros in shared memory."""
    storage = torch.UntypedStorage._new_shared(size)
    return torch.empty(0, dtype=torch.uint8).set_(storage)


class Packer:
    """A worker's blocks. Called with samples, it gives them without their arrays, where those are, and the block."""

    def __init__(self) -> None:
        self.blocks: list[torch.Tensor] = []

    def __call__(self, samples: list[Sample] | MillError) -> Block | MillError:
        """(samples without arrays, where each array is, the block); an error as it is."""
        if isinstance(samples, MillError):
            return samples
        arrays: list[pickle.PickleBuffer] = []
        head = pickle.dumps(samples, protocol=5, buffer_callback=arrays.append)
        places, end = [], ALIGNED
        for array in arrays:
            places.append((end, end + array.raw().nbytes))
            end = -(-places[-1][1] // ALIGNED) * ALIGNED
        block = self._free(end)
        target = block.numpy().data
        target[0] = 1
        for array, (first, last) in zip(arrays, places, strict=True):
            target[first:last] = array.raw()
        return head, places, block

    def _free(self, size: int) -> torch.Tensor:
        for i, block in enumerate(self.blocks):
            if not block[0]:
                if len(block) < size:
                    self.blocks[i] = _new_block(size)
                return self.blocks[i]
        block = _new_block(size)
        if len(self.blocks) < BLOCKS:
            self.blocks.append(block)
        return block


def unpacked(head: bytes, places: list[tuple[int, int]], block: torch.Tensor) -> list[Sample]:
    """What a :class:`Packer` packed, as views of its block, which is free again when none of them is left."""
    array = block.numpy()
    weakref.finalize(array, block.__setitem__, 0, 0).atexit = False
    stored = array.data
    samples: list[Sample] = pickle.loads(head, buffers=[stored[first:last] for first, last in places])  # noqa: S301
    return samples
