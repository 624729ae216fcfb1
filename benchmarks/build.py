"""`controlmill build` against a bare loop over the same calls of libraries, and its memory on a larger corpus.

The loop does what the tables hold and nothing else: decode, fit, JPEG; then from the stored pixels canny, line segments
and the line drawing, each to PNG. One thread everywhere; `build` is a whole command, with its start-up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.corpus import repeat, square, write_photographs
from controlmill.schemas.fingerprint import processor_name
from controlmill.schemas.images.scaling import scaled

DATA = Path(__file__).parent / "data"
CONDITIONS = "canny,hough=lsd,cartoon=standard"


def bare_loop(folder: Path) -> None:
    """The calls alone, picture by picture; results are thrown away."""
    import io

    import cv2
    import numpy as np
    from PIL import Image

    cv2.setNumThreads(1)
    bilevel = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, 3, cv2.IMWRITE_PNG_BILEVEL, 1]
    for path in sorted(folder.rglob("*.jpg")):
        picture = Image.open(io.BytesIO(path.read_bytes()))
        out = io.BytesIO()
        square(picture, scaled).save(out, "JPEG", quality=95, subsampling=0)
        pixels = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB"))
        cv2.imencode(".png", cv2.Canny(pixels, 100, 200), bilevel)
        segments = cv2.createLineSegmentDetector().detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0]
        lines = np.zeros((512, 512), np.uint8)
        for x0, y0, x1, y1 in (
            np.rint(np.zeros((0, 4)) if segments is None else segments.reshape(-1, 4)).astype(int).tolist()
        ):
            if (x1 - x0) ** 2 + (y1 - y0) ** 2 >= 400:
                cv2.line(lines, (x0, y0), (x1, y1), 255, 1)
        cv2.imencode(".png", lines, bilevel)
        floats = pixels.astype(np.float32)
        darker = (cv2.GaussianBlur(floats, (0, 0), 6.0) - floats).min(axis=2).clip(0, 255)
        drawing = (darker / max(16.0, float(np.median(darker[darker > 8]))) * 127).clip(0, 255).astype(np.uint8)
        cv2.imencode(".png", drawing, bilevel[:4])


def seconds(words: list[str]) -> float:
    """Wall time of a command.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    started = time.monotonic()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def peak_megabytes(words: list[str]) -> float:
    """Peak memory of a command's process tree (proportional set size). Looking slows it down, so it is not timed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        time.sleep(0.2)
        total = 0
        with contextlib.suppress(psutil.Error):
            console = psutil.Process(process.pid)
            total = sum(member.memory_full_info().pss for member in (console, *console.children(recursive=True)))
        peak = max(peak, total / 2**20)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return peak


@contextlib.contextmanager
def build(photos: Path, *options: str) -> Iterator[list[str]]:
    """The words of a whole `controlmill build`, into a new folder that is removed afterwards."""
    target = DATA / "dataset"
    shutil.rmtree(target, ignore_errors=True)
    words = ["-m", "controlmill", "build", str(photos), str(target), "--conditions", CONDITIONS, "--threads", "1"]
    yield [*words, *options]
    shutil.rmtree(target)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="photographs")
    parser.add_argument("--rounds", type=int, default=3, help="of each; medians are compared")
    parser.add_argument("--no-memory", action="store_true", help="leave out the corpus four times as large")
    parser.add_argument("--bare-loop", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare_loop:
        bare_loop(arguments.bare_loop)
        return
    photos = write_photographs(DATA / f"photographs-{arguments.count}", arguments.count)
    runs: dict[str, list[float]] = {"bare loop": [], "one worker": [], "two workers": []}
    for _ in range(arguments.rounds):
        runs["bare loop"].append(seconds(["-m", "benchmarks.build", "--bare-loop", str(photos)]))
        with build(photos) as words:
            runs["one worker"].append(seconds(words))
        with build(photos, "--workers", "2") as words:
            runs["two workers"].append(seconds(words))
    median = {name: statistics.median(times) for name, times in runs.items()}
    print(f"{processor_name()}, {os.cpu_count()} cores; {arguments.count} photographs, medians of {arguments.rounds}")
    for name, time_ in median.items():
        print(f"{name:12} {time_:7.1f} s {arguments.count / time_:7.1f} images/s")
    print(f"one worker / bare loop: {median['one worker'] / median['bare loop']:.2f} (goal: at most 1.10)")
    print(f"one worker / two workers: {median['one worker'] / median['two workers']:.2f} (goal: at least 1.7)")
    if arguments.no_memory:
        return
    with build(photos) as words:
        once = peak_megabytes([sys.executable, *words])
    with build(repeat(photos, DATA / f"photographs-{arguments.count}-times-4", 4)) as words:
        larger = peak_megabytes([sys.executable, *words])
    print(
        f"peak memory, {arguments.count * 4} and {arguments.count} photographs: {larger:.0f} / {once:.0f} MiB = "
        f"{larger / once:.2f} (goal: within 10 %)"
    )


if __name__ == "__main__":
    main()
