"""`controlmill build` against a bare loop over the same OpenCV and Pillow calls, and its memory on a larger corpus.

The loop does what the tables hold and nothing else: decode, fit, JPEG; then from the stored pixels canny, line segments
and the line drawing, each to PNG. One thread everywhere; `build` is a whole command, with its start-up.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from .corpus import repeat, write_photographs

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
        w, h = picture.size
        side = min(w, h)
        picture.draft("RGB", (w * 768 // side + 1, h * 768 // side + 1))
        scale = picture.width / w
        x, y = (w - side) // 2 * scale, (h - side) // 2 * scale
        box = (x, y, min(x + side * scale, picture.width), min(y + side * scale, picture.height))
        fitted = picture.resize((512, 512), Image.Resampling.LANCZOS, box=box)
        out = io.BytesIO()
        fitted.save(out, "JPEG", quality=95, subsampling=0)
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


@dataclass
class Measured:
    """A command's wall time, processor time and peak memory (its whole process tree)."""

    seconds: float
    processor: float
    megabytes: float


def measure(words: list[str]) -> Measured:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, processor = 0.0, {}
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            total = 0.0
            try:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            except psutil.Error:
                continue
            for member in family:
                try:
                    total += member.memory_full_info().pss / 2**20
                    times = member.cpu_times()
                    processor[member.pid] = times.user + times.system
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, said = process.communicate()
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, stderr=said)
    return Measured(seconds, sum(processor.values()), peak)


def build(photos: Path, *options: str) -> Measured:
    """A whole `controlmill build`, into a new folder."""
    target = DATA / "dataset"
    shutil.rmtree(target, ignore_errors=True)
    try:
        return measure(
            [
                "-m",
                "controlmill",
                "build",
                str(photos),
                str(target),
                "--conditions",
                CONDITIONS,
                "--threads",
                "1",
                *options,
            ]
        )
    finally:
        shutil.rmtree(target, ignore_errors=True)


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
    runs: dict[str, list[Measured]] = {"bare loop": [], "one worker": [], "two workers": []}
    for _ in range(arguments.rounds):
        runs["bare loop"].append(measure(["-m", "benchmarks.build", "--bare-loop", str(photos)]))
        runs["one worker"].append(build(photos))
        runs["two workers"].append(build(photos, "--workers", "2"))
    seconds = {name: statistics.median(run.seconds for run in measured) for name, measured in runs.items()}
    for name, measured in runs.items():
        processor = statistics.median(run.processor for run in measured)
        peak = max(run.megabytes for run in measured)
        print(
            f"{name:12} {seconds[name]:7.1f} s {arguments.count / seconds[name]:7.1f} images/s "
            f"{processor:7.1f} s of processor {peak:7.0f} MiB at most"
        )
    print(f"one worker / bare loop: {seconds['one worker'] / seconds['bare loop']:.2f} (goal: at most 1.10)")
    print(f"one worker / two workers: {seconds['one worker'] / seconds['two workers']:.2f} (goal: at least 1.7)")
    if not arguments.no_memory:
        larger = build(repeat(photos, DATA / f"photographs-{arguments.count}-times-4", 4))
        once = max(run.megabytes for run in runs["one worker"])
        print(
            f"peak memory, four times as many: {larger.megabytes:.0f} / {once:.0f} MiB = "
            f"{larger.megabytes / once:.2f} (goal: within 10 %)"
        )


if __name__ == "__main__":
    main()
