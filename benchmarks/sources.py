"""`controlmill ingest` of the same photographs as a folder, tars and Parquet files; and `datasets` doing the like.

`datasets` loads an image folder, maps the same crop, scaling and JPEG encoding over it, and writes Parquet. Whole
commands with their start-up, one process and one thread that decodes; processor time is of all their processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpus import square, write_photographs
from controlmill.schemas.fingerprint import processor_name

DATA = Path(__file__).parent / "data"
FILES = 4  # tars, and Parquet files
GROUP_ROWS = 100


def write_copies(photos: Path, target: Path) -> None:
    """The photographs as tars and as Parquet files in ``target``, made once."""
    for ending in ("tar", "parquet"):
        (target / ending).mkdir(parents=True, exist_ok=True)
    paths = sorted(photos.rglob("*.jpg"))
    size = -(-len(paths) // FILES)
    for number in range(FILES):
        part = paths[number * size :][:size]
        if not (target / f"tar/{number}.tar").exists():
            with tarfile.open(target / f"tar/{number}.tar", "w") as archive:
                for path in part:
                    archive.add(path, str(path.relative_to(photos)))
        if not (target / f"parquet/{number}.parquet").exists():
            rows = [{"bytes": path.read_bytes(), "path": str(path.relative_to(photos))} for path in part]
            pq.write_table(pa.table({"image": rows}), target / f"parquet/{number}.parquet", row_group_size=GROUP_ROWS)


def with_datasets(photos: Path, target: Path) -> None:
    """An image folder through ``datasets``, to 512 pixels square, JPEG of quality 95, as Parquet."""
    import io

    import datasets
    from PIL import Image

    def fitted(row: dict[str, Image.Image]) -> dict[str, dict[str, bytes | None]]:
        out = io.BytesIO()
        square(row["image"]).save(out, "JPEG", quality=95, subsampling=0)
        return {"image": {"bytes": out.getvalue(), "path": None}}

    folder = datasets.load_dataset("imagefolder", data_dir=str(photos), split="train", cache_dir=str(target / "cache"))
    folder.map(fitted, features=folder.features).to_parquet(str(target / "images.parquet"))


def seconds(words: list[str]) -> tuple[float, float]:
    """(wall time, processor time) of a command and its processes.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, spent


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="photographs, 1,000 pixels")
    parser.add_argument("--rounds", type=int, default=3, help="of each; medians are compared")
    parser.add_argument("--datasets", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.datasets:
        with_datasets(*arguments.datasets)
        return
    photos = write_photographs(DATA / f"photographs-1000-{arguments.count}", arguments.count, long_side=1000)
    copies, target = DATA / f"copies-1000-{arguments.count}", DATA / "dataset"
    write_copies(photos, copies)
    ingest = ["-m", "controlmill", "ingest"]
    commands = {
        "folder": [*ingest, str(photos), str(target), "--threads", "1"],
        "tar": [*ingest, str(copies / f"tar/{{0..{FILES - 1}}}.tar"), str(target), "--threads", "1"],
        "parquet": [*ingest, str(copies / "parquet/*.parquet"), str(target), "--threads", "1"],
        "datasets": ["-m", "benchmarks.sources", "--datasets", str(photos), str(target)],
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        for name, words in commands.items():
            shutil.rmtree(target, ignore_errors=True)
            runs[name].append(seconds(words))
    shutil.rmtree(target)
    print(f"{processor_name()}, {os.cpu_count()} cores; {arguments.count} photographs, medians of {arguments.rounds}")
    wall = {name: statistics.median(run[0] for run in found) for name, found in runs.items()}
    spent = {name: statistics.median(run[1] for run in found) for name, found in runs.items()}
    for name in commands:
        print(f"{name:9} {wall[name]:7.1f} s {spent[name]:7.1f} s of a processor")
    for name, goal in (("tar", "at most 1.1"), ("parquet", "at most 1.1"), ("datasets", "at least 2")):
        ratios = f"{wall[name] / wall['folder']:.2f}, of a processor {spent[name] / spent['folder']:.2f}"
        print(f"{name} / folder: {ratios} (goal: {goal})")


if __name__ == "__main__":
    main()
