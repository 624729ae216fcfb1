"""`controlmill ingest` of a list of URLs against img2dataset: the same JPEGs from a loopback server, to Parquet.

Both run as one process with the same number of downloads at a time, cut a centred square of 512 pixels, scale by
Lanczos and store JPEG of quality 95. What differs: ControlMill keeps full chroma and filters as it scales down;
img2dataset has OpenCV's Lanczos, which does not, and half the chroma. It is installed in an environment of its own,
whose Python is given with `--img2dataset`; without it ControlMill is measured alone.
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
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.build import peak_megabytes
from benchmarks.corpus import write_photographs
from controlmill.schemas.fingerprint import processor_name

DATA = Path(__file__).parent / "data"
FEW = 32  # URLs that take no more memory than starting does
SERVER = """
import sys
from aiohttp import web
app = web.Application()
app.router.add_static("/", sys.argv[1])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=lambda *_: None, access_log=None)
"""
PEER = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], output_folder=sys.argv[2], input_format="txt", output_format="parquet",
             processes_count=1, thread_count=int(sys.argv[3]), image_size=512, resize_mode="center_crop",
             downscale_interpolation="lanczos", encode_quality=95, number_sample_per_shard=int(sys.argv[4]),
             enable_wandb=False, compute_hash="sha256")
"""


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    """The files of a folder, from a process of its own."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), str(port)])
    try:
        time.sleep(3)
        yield
    finally:
        server.terminate()
        server.wait()


def measure(words: list[str]) -> tuple[float, float]:
    """(wall seconds, processor seconds) of a command and its children.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_of(words: list[str], target: Path) -> float:
    """Peak memory of a command that begins anew, in MiB."""
    shutil.rmtree(target, ignore_errors=True)
    peak = peak_megabytes(words)
    shutil.rmtree(target)
    return peak


def rows(folder: Path) -> int:
    """Pictures that were stored."""
    return sum(
        sum(value.is_valid for value in pq.read_table(path, columns=["sha256"])["sha256"])
        for path in folder.rglob("*.parquet")
    )


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="photographs")
    parser.add_argument("--rounds", type=int, default=3, help="of each; medians are compared")
    parser.add_argument("--connections", type=int, default=32, help="downloads at a time")
    parser.add_argument("--port", type=int, default=8765, help="of the loopback server")
    parser.add_argument("--img2dataset", type=Path, help="Python of an environment that has it")
    arguments = parser.parse_args()
    photos = write_photographs(DATA / f"photographs-{arguments.count}-1000", arguments.count, long_side=1000)
    urls, target, together = DATA / "urls.txt", DATA / "downloaded", str(arguments.connections)
    names = (path.relative_to(photos) for path in sorted(photos.rglob("*.jpg")))
    lines = [f"http://127.0.0.1:{arguments.port}/{name}\n" for name in names]
    urls.write_text("".join(lines))
    few_urls = DATA / "few-urls.txt"
    few_urls.write_text("".join(lines[:FEW]))
    shard = str(min(512, -(-arguments.count // 4)))
    own = [sys.executable, "-m", "controlmill", "ingest", str(urls), str(target), "--allow-private-hosts", "--threads"]
    own += ["1", "--shard-size", shard, "--connections", together, "--connections-per-host", together]
    commands = {"controlmill": own}
    if arguments.img2dataset:
        words = [str(arguments.img2dataset), "-c", PEER, str(urls), str(target), together, shard]
        commands["img2dataset"] = words
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with serving(photos, arguments.port):
        for name, words in [*commands.items()] * arguments.rounds:
            shutil.rmtree(target, ignore_errors=True)
            runs[name].append(measure(words))
            found = rows(target / "images" if name == "controlmill" else target)
            if found != arguments.count:
                raise SystemExit(f"{name} stored {found} of {arguments.count} pictures")
        peaks = {}
        for name, words in commands.items():
            fewer = [str(few_urls) if word == str(urls) else word for word in words]
            peaks[name] = [peak_of(command, target) for command in (fewer, words)]
    print(f"{processor_name()}, {os.cpu_count()} cores; {arguments.count} URLs, medians of {arguments.rounds}")
    median = {
        name: [statistics.median(figures) for figures in zip(*found, strict=True)] for name, found in runs.items()
    }
    for name, (wall, processor) in median.items():
        few, many = peaks[name]
        print(
            f"{name:12} {wall:7.1f} s {arguments.count / wall:7.1f} images/s, processor {processor:7.1f} s; "
            f"peak memory {many:.0f} MiB, {many - few:.0f} of it beyond {FEW} URLs"
        )
    if "img2dataset" in median:
        wall, processor = (peer / own for peer, own in zip(median["img2dataset"], median["controlmill"], strict=True))
        print(f"controlmill / img2dataset: {wall:.2f} x images/s, {processor:.2f} x per processor second (goal: 1.5)")


if __name__ == "__main__":
    main()
