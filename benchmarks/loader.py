"""The trainer's loader against `datasets`, webdataset, mosaicml-streaming, and the decode calls alone.

Pictures at 512x512 with one condition and captions, decoded by the same two calls everywhere, in batches of 16 that a
consumer takes as fast as they come. `datasets` streams the very same Parquet files, the others read copies of the same
bytes; all shuffle. The bare loop decodes bytes that are in memory and throws the arrays away. Every reader stays alive
and takes its turn in each round, so that what else the machine does falls on all of them. On a busy machine a reader
of more threads gets more of the processor, so images per second of processor time (all its processes) are said beside
those per second of the clock.

webdataset is in the extra `bench`. mosaicml-streaming asks for older transformers, huggingface-hub and numpy than
ControlMill needs, but its reader runs without; for its row:

    pip install --no-deps --target PEERS mosaicml-streaming brotli python-snappy cramjam zstd catalogue
    PYTHONPATH=PEERS make bench
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks.build import DATA
from benchmarks.corpus import write_photographs
from benchmarks.loader_peers import BATCH, copies, decoded, peer, stored_rows
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import processor_name
from controlmill.schemas.names import index_file
from controlmill.training.data import processes
from controlmill.training.data.loader import Loader, LoaderConfig
from controlmill.training.data.selection import check_tables, select

OURS = "ControlMill"
SHARD = 128
CAPTION = "a photograph, one of many, cut from a larger one"


def write_dataset(folder: Path, count: int) -> Path:
    """An ordinary dataset with canny and captions, made once by `controlmill build`."""
    photos, dataset = folder / f"photographs-512-{count}", folder / f"loader-{count}"
    if not (dataset / index_file("canny")).exists():
        write_photographs(photos, count, long_side=768)
        for path in photos.rglob("*.jpg"):
            path.with_suffix(".txt").write_text(CAPTION + "\n", "utf-8")
        words = ["-m", "controlmill", "build", str(photos), str(dataset), "--conditions", "canny"]
        subprocess.run([sys.executable, *words, "--shard-size", str(SHARD)], check=True)
    return dataset


def our_loader(address: str, threads: int = 1) -> Loader:
    """The trainer's loader on the dataset."""
    dataset = Dataset.open(address)
    selection = select(dataset, ["canny"])
    return Loader(dataset, check_tables(dataset, ["canny"]), selection, LoaderConfig(batch_size=BATCH), threads)


class Reader:
    """A source of batches, and the processes that it started."""

    def __init__(self, make: Callable[[], Iterator[Any]], ahead: int):
        before = {child.pid for child in psutil.Process().children()}
        self.batches, self.ahead = make(), ahead
        for _ in range(ahead + 4):
            next(self.batches)
        self.processes = [child for child in psutil.Process().children() if child.pid not in before]

    def measure(self, batches: int) -> tuple[float, float]:
        """(seconds of the clock, of the processor) of so many batches, once those made in advance are used up."""
        for _ in range(self.ahead):
            next(self.batches)
        return measured(lambda: [next(self.batches) for _ in range(batches)], self.processes)


class BareLoop:
    """The decode calls alone, in so many processes; each has some rows' bytes in memory."""

    def __init__(self, address: str, workers: int):
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"), bare_rows, (address,))
        self.workers = workers
        list(self.pool.map(bare_loop, [BATCH] * 2 * workers))
        self.processes = [psutil.Process(pid) for pid in self.pool._processes]

    def measure(self, batches: int) -> tuple[float, float]:
        """(seconds of the clock, of the processor) of so many batches."""
        shares = [batches * BATCH // self.workers] * self.workers
        return measured(lambda: list(self.pool.map(bare_loop, shares)), self.processes)


def measured(work: Callable[[], Any], processes: list[psutil.Process]) -> tuple[float, float]:
    """(seconds of the clock, of the processor in this process and the given ones)."""

    def used() -> float:
        return time.process_time() + sum(sum(process.cpu_times()[:2]) for process in processes)

    before, started = used(), time.perf_counter()
    work()
    return time.perf_counter() - started, used() - before


BARE: list[tuple[bytes, bytes, str]] = []


def bare_rows(address: str) -> None:
    """Fill a process's memory with one shard's rows."""
    cv2.setNumThreads(1)
    BARE.extend(stored_rows(Dataset.open(address), 0))


def bare_loop(count: int) -> None:
    """Decode and throw away."""
    for row in itertools.islice(itertools.cycle(BARE), count):
        decoded(*row)


def measure(dataset: Path, workers: int, rounds: int, batches: int, others: dict[str, Path]) -> dict[str, np.ndarray]:
    """Of each reader, in each round, images per second of the clock and of the processor: float (rounds, 2)."""
    ahead = 3 * workers + 4
    address = str(dataset)
    makers: dict[str, Callable[[], Iterator[Any]]] = {
        OURS: lambda: processes.batches(our_loader(address), workers=workers),
        f"{OURS}, threads alone": lambda: our_loader(address, workers).batches(),
        **{name: functools.partial(peer, name, str(folder), workers) for name, folder in others.items()},
    }
    bare = BareLoop(address, workers)
    sources: dict[str, Any] = {"bare decode loop": bare, **{name: Reader(make, ahead) for name, make in makers.items()}}
    rates: dict[str, list[np.ndarray]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            rates[name].append(batches * BATCH / np.array(source.measure(batches)))
    for name in (OURS, f"{OURS}, threads alone"):
        sources[name].batches.close()
    bare.pool.shutdown()
    return {name: np.array(found) for name, found in rates.items()}


def main() -> None:
    """Print images/s and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=512, help="photographs")
    parser.add_argument("--rounds", type=int, default=7, help="of each; medians are compared")
    parser.add_argument("--batches", type=int, default=12, help="of 16, in each round")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"  # of workers: PyTorch warns of arrays that may not be written to
    cv2.setNumThreads(1)
    dataset = write_dataset(DATA, arguments.count)
    others = copies(dataset)
    print(f"{processor_name()}, {os.cpu_count()} cores; {arguments.count} pictures at 512x512, canny, captions")
    print(f"{arguments.rounds} rounds of {arguments.batches} batches of {BATCH}; medians, of the rounds' ratios too")
    for workers in arguments.workers:
        rates = measure(dataset, workers, arguments.rounds, arguments.batches, others)
        title = f"{workers} worker{'s' if workers > 1 else ''}"
        print(f"\n{title:30} {'images/s':>9} {'ours /':>8} {'images/CPU s':>13} {'ours /':>8}")
        for name, found in rates.items():
            middle, ratio = np.median(found, axis=0), np.median(rates[OURS] / found, axis=0)
            print(f"{name:30} {middle[0]:9.1f} {ratio[0]:8.2f} {middle[1]:13.1f} {ratio[1]:8.2f}")
    print("\ngoals of `ours /`: at least 1.5 for datasets, 1 for the others, 0.9 for the bare loop")


if __name__ == "__main__":
    main()
