"""What a shard costs beyond its work, what memory many shards take, and a listing of millions.

The same pictures are built in few shards and in many (whole commands, one thread); what the second takes longer is the
shards' own: commits, marks of attempts, the index, progress. Each commit waits for the disk, and so it is said how long
this disk takes. The listing is of names that nobody has pictures of.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import psutil

from controlmill.pipelines.corpora.corpus import Source
from controlmill.pipelines.corpora.listing import write_listing
from controlmill.pipelines.engine.mend import check_listing, mended
from controlmill.pipelines.engine.run_folder import Run
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import processor_name
from controlmill.schemas.provenance import IngestRecord, LimitsRecord

DATA = Path(__file__).parent / "data"
SIDE = 64
FEW = 500  # pictures in a shard of the run that is compared with
TABLES = 4  # files of a shard: sources, images, rejected, canny
MEBI = 2**20
GOAL_MS = 15


@dataclass
class Cost:
    """What a command took: seconds by the clock, of processors, and peak memory (MiB) of each kind of process.

    ``early`` is the memory of each kind when a quarter of the time was over.
    """

    seconds: float = 0.0
    processor: float = 0.0
    peak: dict[str, float] = field(default_factory=dict)
    early: dict[str, float] = field(default_factory=dict)


def write_pictures(folder: Path, count: int) -> Path:
    """``count`` different JPEGs of 64 pixels, 1,000 to a folder; made once."""
    rng = np.random.default_rng(0)
    grounds = [cv2.GaussianBlur(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), (0, 0), 3) for _ in range(50)]
    for number in range(count):
        path = folder / f"{number // 1000:04d}/{number:07d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = grounds[number % len(grounds)] * 2
            cv2.putText(picture, str(number), (2, 40), cv2.FONT_HERSHEY_PLAIN, 1.0, (255, 255, 255))
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def disk_milliseconds(folder: Path, times: int = 200) -> float:
    """What it takes on this disk until a small new file is there for good; the median."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    for _ in range(times):
        path = folder / "synced"
        with path.open("wb") as file:
            file.write(b"x" * 8000)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
        path.unlink()
    return statistics.median(taken) * 1000


def measured(words: list[str]) -> Cost:
    """What a command of ControlMill costs; memory is looked at twice a second.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "controlmill", *words, "--quiet"]
    process = subprocess.Popen(command)
    seen: list[tuple[float, dict[str, float]]] = []
    while process.poll() is None:
        time.sleep(0.5)
        seen.append((time.monotonic() - started, memory_of(process.pid)))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = Cost(time.monotonic() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for when, memory in seen:
        for kind, size in memory.items():
            cost.peak[kind] = max(cost.peak.get(kind, 0.0), size)
            if when <= cost.seconds / 4:
                cost.early[kind] = max(cost.early.get(kind, 0.0), size)
    return cost


def memory_of(console: int) -> dict[str, float]:
    """Kind of process → MiB that belong to it alone, of the largest one of its kind."""
    found: dict[str, float] = {}
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(console)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                kind = "console" if process == parent else "job" if process.ppid() == console else "worker"
                found[kind] = max(found.get(kind, 0.0), process.memory_full_info().uss / MEBI)
    return found


def build(photos: Path, shard_size: int, *options: str) -> Cost:
    """A whole build with one weight-free condition, into a folder that is removed again."""
    target = DATA / "many-shards"
    shutil.rmtree(target, ignore_errors=True)
    sizes = ["--resolution", str(SIDE), "--min-side", str(SIDE), "--shard-size", str(shard_size)]
    cost = measured(["build", str(photos), str(target), "--conditions", "canny", "--threads", "1", *sizes, *options])
    shutil.rmtree(target)
    return cost


def synthetic(count: int) -> Iterator[Source]:
    """Names as a crawl has them, in order."""
    for number in range(count):
        yield Source(f"{number // 10_000:06d}/{number:012x}.jpg", None, 100_000 + number % 7919, str(number))


def list_many(count: int) -> None:
    """Commit a listing as `ingest` does, and look at it as a rerun does; print seconds, bytes and memory."""
    target = DATA / "many-listed"
    shutil.rmtree(target, ignore_errors=True)
    dataset = Dataset.create(target, IngestRecord(1, 512, "crop", LimitsRecord(64_000_000, 2**28, 64), None))
    run = Run.start(dataset.storage)
    started, processor, before = time.monotonic(), time.process_time(), peak()
    segment = write_listing(dataset, run, synthetic(count), "folder")
    dataset.append([segment], [""])
    dataset.finish("sources")
    took = f"{time.monotonic() - started:.0f} s, {time.process_time() - processor:.0f} s of a processor"
    index = dataset.index("sources")
    size = sum(entry.bytes for entry in index.shards) if index else 0
    print(f"listing {count:,}: {dataset.shards:,} shards, {took}, {size / count:.1f} bytes a picture")
    run.end()
    listed, started, processor = peak(), time.monotonic(), time.process_time()
    again = mended(target)
    check_listing(again)
    again.whole_index("sources")
    took = f"{time.monotonic() - started:.1f} s, {time.process_time() - processor:.1f} s of a processor"
    print(f"looking at it again: {took}; memory: {before:.0f} MiB before, {listed:.0f} listed, {peak():.0f} in the end")
    shutil.rmtree(target)


def peak() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print what a shard costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="pictures of 64 pixels")
    parser.add_argument("--shard-size", type=int, default=4, help="in the run with many shards")
    parser.add_argument("--workers", type=int, default=0, help="of both runs; 0: one process")
    parser.add_argument("--listing", type=int, metavar="COUNT", help="list so many names instead, e.g. 10000000")
    arguments = parser.parse_args()
    print(f"{processor_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"a new file is on this disk for good after {disk_milliseconds(DATA):.1f} ms")
    if arguments.listing:
        list_many(arguments.listing)
        return
    photos = write_pictures(DATA / f"small-{arguments.count}", arguments.count)
    options = ("--workers", str(arguments.workers)) if arguments.workers else ()
    found = {size: build(photos, size, *options) for size in (FEW, arguments.shard_size)}
    for size, cost in found.items():
        kinds = ", ".join(f"{kind} {cost.peak[kind]:.0f} ({cost.early.get(kind, 0):.0f})" for kind in sorted(cost.peak))
        print(
            f"{-(-arguments.count // size):,} shards: {cost.seconds:.1f} s, {cost.processor:.1f} s of processors; peak "
            f"memory, MiB (of it in the first quarter): {kinds}"
        )
    few, many = found[FEW], found[arguments.shard_size]
    more = -(-arguments.count // arguments.shard_size) - -(-arguments.count // FEW)
    by_clock, of_processors = (
        (getattr(many, name) - getattr(few, name)) / more * 1000 for name in ("seconds", "processor")
    )
    print(
        f"a shard beyond its work, of {TABLES} files in a listing and two stages: {by_clock:.1f} ms, "
        f"{of_processors:.1f} ms of a processor (goal: at most {GOAL_MS} a stage)"
    )


if __name__ == "__main__":
    main()
