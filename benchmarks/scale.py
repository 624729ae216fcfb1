"""What a corpus of a million, a hundred million or five billion pictures takes: plain arithmetic on measured figures.

    python -m benchmarks.scale --conditions canny,hed,depth --dtype bf16 --workers 64

Every figure that goes in stands in this file with where it comes from; `docs/scale.md` shows what comes out. Of GPUs
none is known: `make gpu PART=annotators` measures one, and ``--gpu gpu/annotators.json`` takes what it found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlmill.pipelines.corpora.listing import LARGEST_SHARD
from controlmill.pipelines.engine.dask import SHARDS_AT_ONCE
from controlmill.schemas.bounds import MAX_SHARDS
from controlmill.schemas.names import SHARDS_PER_FOLDER

PICTURES = (1_000_000, 100_000_000, 5_000_000_000)
DTYPES = ("fp32", "bf16")
BY_HOUR, BY_DAY = 3_600, 86_400
UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
INGEST_SECONDS = 0.0104  # of a core for a photograph of 1,000 pixels: docs/benchmarks.md, "Where the time goes"
SHARD_SECONDS = 0.0032  # of a core beyond the work, for each file of a shard: benchmarks/shards.py
LISTING_SECONDS = 8e-6  # of a core for each picture, one after another: docs/benchmarks.md, "Listing"
LISTED_BYTES = 22  # of `sources`, a picture of a crawl: benchmarks/shards.py --listing
INDEX_BYTES = 235  # of an index, a shard: 200,000 of them were 47 MB, read in 2 s and 230 MB of memory
SCHEDULER_BYTES = (
    23_000  # of memory that Dask's scheduler and its client take for each shard that they know: 4,000 took 90 MB
)
# requests to a store: (reads, writes) for each shard; tests/pipelines/test_object_store.py counts them. DELETE is free
INGEST_REQUESTS = (13, 4)  # beside one read for each picture that is on the store
TABLE_REQUESTS = (7, 2)


@dataclass(frozen=True)
class Work:
    """Conditions that share a forward pass.

    Args:
        tables: each with the bytes of a map at 512 pixels.
        network: its name in what ``make gpu`` writes; None: there is none, and it is done on cores alone.
        seconds: of a core for a picture, at fp32 and bf16: docs/annotators.md, "Speed".
    """

    tables: Mapping[str, int]
    network: str | None
    seconds: tuple[float, float]


IMAGE_BYTES = 109_000
# bytes of images, canny, hed, scribble are those of 48 photographs with real weights; the others are of what such maps
# are like (smooth 16-bit and RGB pictures, drawings, regions), since their real weights were not at hand
WORKS = (
    Work({"canny": 10_600}, None, (0.006, 0.007)),
    Work({"hough": 5_200}, "mlsd", (0.558, 0.273)),
    Work({"hed": 92_000, "scribble": 5_600}, "hed", (1.489, 0.752)),
    Work({"pose": 5_000}, "openpose", (0.719, 0.412)),
    Work({"segmentation": 8_000}, "upernet", (3.605, 1.875)),
    Work({"depth": 405_000, "normals": 229_000}, "dpt-hybrid", (2.637, 1.615)),
    Work({"cartoon": 60_000}, "anime2sketch", (0.617, 0.364)),
    Work({"caption": 100}, "blip-base", (1.475, 0.842)),
)
CONDITIONS = tuple(table for work in WORKS for table in work.tables)


@dataclass(frozen=True)
class Gpu:
    """Network → (seconds of the GPU, seconds of a core beside it) for a picture."""

    name: str
    seconds: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Estimate:
    """What a corpus takes. Seconds are of one core, or of one GPU; ``bytes_of`` and ``requests`` are of all tables."""

    pictures: int
    shards: int
    datasets: int
    core_seconds: Mapping[str, float]
    gpu_seconds: Mapping[str, float]
    bytes_of: Mapping[str, int]
    reads: int
    writes: int
    listing_seconds: float
    index_bytes: int

    @property
    def files(self) -> int:
        """Data files of all tables, with `sources` and `rejected`."""
        return self.shards * (len(self.bytes_of) + 1)

    def days(self, workers: int) -> float:
        """Days that so many cores, and as many GPUs where there are any, take."""
        busy = max(sum(self.core_seconds.values()), sum(self.gpu_seconds.values()))
        return (busy / workers + self.listing_seconds) / BY_DAY


def estimate(
    pictures: int,
    conditions: Sequence[str],
    dtype: str = "bf16",
    shard_size: int = LARGEST_SHARD,
    gpu: Gpu | None = None,
) -> Estimate:
    """What some conditions of so many pictures take, with the pictures and the dataset on a store.

    Raises:
        ValueError: a condition that no figures are known of, or that the GPU was not measured with.
    """
    unknown = sorted(set(conditions).difference(CONDITIONS))
    if unknown:
        raise ValueError(f"no figures of {', '.join(unknown)}; there are those of {', '.join(CONDITIONS)}")
    shards = -(-pictures // shard_size)
    cores = {"ingest": pictures * INGEST_SECONDS + 3 * shards * SHARD_SECONDS}
    gpus: dict[str, float] = {}
    sizes = {"sources": pictures * LISTED_BYTES, "images": pictures * IMAGE_BYTES}
    for work in WORKS:
        wanted = [table for table in work.tables if table in conditions]
        if not wanted:
            continue
        sizes.update({table: pictures * work.tables[table] for table in wanted})
        name, seconds = ", ".join(wanted), work.seconds[DTYPES.index(dtype)]
        if gpu and work.network:
            if work.network not in gpu.seconds:
                raise ValueError(f"{gpu.name} was not measured with {work.network}")
            gpus[name] = pictures * gpu.seconds[work.network][0]
            seconds = gpu.seconds[work.network][1]
        cores[name] = pictures * seconds + len(wanted) * shards * SHARD_SECONDS
    tables = len(sizes) - 2
    return Estimate(
        pictures,
        shards,
        -(-shards // MAX_SHARDS),
        cores,
        gpus,
        sizes,
        pictures + shards * (INGEST_REQUESTS[0] + tables * TABLE_REQUESTS[0]),
        shards * (INGEST_REQUESTS[1] + tables * TABLE_REQUESTS[1]),
        pictures * LISTING_SECONDS,
        min(shards, MAX_SHARDS) * INDEX_BYTES,
    )


def read_gpu(file: Path, dtype: str) -> Gpu:
    """What `make gpu PART=annotators` found, at one dtype."""
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    seconds = {
        row["case"].rsplit(" ", 1)[0]: (1 / row["pictures_per_second"], row["host_ms_a_picture"] / 1000)
        for row in found["rows"]
        if row["case"].endswith(f" {dtype}")
    }
    return Gpu(str(found.get("device", "the GPU")), seconds)


def size(count: float) -> str:
    """Bytes, for people: 1.2 TB."""
    step = min((len(str(int(count))) - 1) // 3, len(UNITS) - 1)
    return f"{count / 1000**step:.3g} {UNITS[step]}"


def page(found: Sequence[Estimate], workers: int) -> str:
    """The estimates as tables of Markdown."""
    heads = ["", *(f"{one.pictures:,}" for one in found)]
    kinds = [
        ("core hours", {name: [one.core_seconds[name] for one in found] for name in found[0].core_seconds}),
        ("GPU hours", {name: [one.gpu_seconds[name] for one in found] for name in found[0].gpu_seconds}),
    ]
    tables = []
    for kind, seconds in kinds:
        if seconds:
            rows = [[name, *(f"{value / BY_HOUR:,.0f}" for value in values)] for name, values in seconds.items()]
            sums = [sum(values) / BY_HOUR for values in zip(*seconds.values(), strict=True)]
            tables.append(_table([kind, *heads[1:]], [*rows, ["all", *(f"{value:,.0f}" for value in sums)]]))
    bytes_ = [[name, *(size(one.bytes_of[name]) for one in found)] for name in found[0].bytes_of]
    tables.append(_table(["bytes", *heads[1:]], [*bytes_, ["all", *(size(sum(o.bytes_of.values())) for o in found)]]))
    rest = {
        f"days with {workers:,} workers": [f"{one.days(workers):,.1f}" for one in found],
        "listing, hours of one core": [f"{one.listing_seconds / BY_HOUR:,.1f}" for one in found],
        "shards": [f"{one.shards:,}" for one in found],
        f"datasets, of at most {MAX_SHARDS:,} shards": [f"{one.datasets:,}" for one in found],
        "data files": [f"{one.files:,}" for one in found],
        f"folders of a table, {SHARDS_PER_FOLDER:,} files each": [
            f"{-(-one.shards // SHARDS_PER_FOLDER):,}" for one in found
        ],
        "a table's index, in each dataset": [size(one.index_bytes) for one in found],
        "memory of Dask's scheduler": [size(min(one.shards, 2 * SHARDS_AT_ONCE) * SCHEDULER_BYTES) for one in found],
        "reads from a store": [f"{one.reads:,}" for one in found],
        "writes to a store": [f"{one.writes:,}" for one in found],
    }
    tables.append(_table(["", *heads[1:]], [[name, *values] for name, values in rest.items()]))
    return "\n\n".join(tables)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=lambda text: int(float(text)), nargs="+", default=PICTURES)
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="which; default: all ten")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--gpu", type=Path, help="gpu/annotators.json, which `make gpu PART=annotators` writes")
    parser.add_argument("--shard-size", type=int, default=LARGEST_SHARD, help="pictures in a shard")
    parser.add_argument("--workers", type=int, default=1000, help="cores, each a worker; or GPUs, each with a core")
    arguments = parser.parse_args()
    gpu = read_gpu(arguments.gpu, arguments.dtype) if arguments.gpu else None
    conditions = [name for name in arguments.conditions.split(",") if name]
    try:
        found = [
            estimate(pictures, conditions, arguments.dtype, arguments.shard_size, gpu)
            for pictures in arguments.pictures
        ]
    except ValueError as error:
        parser.error(str(error))
    print(page(found, arguments.workers))


if __name__ == "__main__":
    main()
