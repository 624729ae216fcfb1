"""`controlmill export --to webdataset` against a plain loop over `datasets` that writes the same files into tars.

The loop reads the tables' configs side by side, without decoding what is not changed, and writes with webdataset's
ShardWriter; 16-bit depth goes through OpenCV with its defaults, in one thread. Imports are not counted. `datasets`
begins with an empty cache, as it does for a new dataset, or finds the tables in its cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from benchmarks.corpus import repeat, write_photographs
from controlmill.schemas.fingerprint import processor_name

DATA = Path(__file__).parent / "data"


def plain_loop(dataset: Path, out: Path, table: str) -> None:
    """What a user would write."""
    import json

    import cv2
    import numpy as np
    import webdataset
    from datasets import Image, load_dataset

    images = load_dataset(str(dataset), "images", split="train").cast_column("image", Image(decode=False))
    maps = load_dataset(str(dataset), table, split="train").cast_column("map", Image(decode=False))
    images = images.select_columns(["key", "image", "width", "height", "caption"])
    maps = maps.select_columns(["key", "map"])
    out.mkdir()
    with webdataset.ShardWriter(f"{out}/%05d.tar", maxsize=500_000_000, maxcount=10**9, verbose=0) as sink:
        for number, (row, other) in enumerate(zip(images, maps, strict=True)):
            if other["map"] is None:
                continue
            assert row["key"] == other["key"]
            data = other["map"]["bytes"]
            if table == "depth":
                deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                grey = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2)
                data = cv2.imencode(".png", grey)[1].tobytes()
            about = {"key": row["key"], "width": row["width"], "height": row["height"]}
            sink.write(
                {
                    "__key__": f"{number:08d}",
                    "jpg": row["image"]["bytes"],
                    f"{table}.png": data,
                    "txt": (row["caption"] or "").encode(),
                    "json": json.dumps(about).encode(),
                }
            )


def make_dataset(count: int) -> Path:
    """``count`` photographs of 512 pixels with canny and a 16-bit map, made once."""
    import cv2
    import numpy as np

    dataset, once = DATA / f"export-{count}", min(count, 250)
    if (dataset / "_tables" / "depth.json").exists():
        return dataset
    shutil.rmtree(dataset, ignore_errors=True)
    photos = write_photographs(DATA / f"photographs-{once}", once)
    for path in photos.rglob("*.jpg"):
        grey = cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), None, fx=0.3, fy=0.3)
        deep = cv2.GaussianBlur(grey.astype(np.float32) * 257, (0, 0), 8).astype(np.uint16)
        for number in range(count // once):
            target = DATA / f"depth-{count}" / "depth" / str(number) / path.relative_to(photos).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), deep)
    corpus = repeat(photos, DATA / f"photographs-{count}-of-{once}", count // once)
    words = ["build", str(corpus), str(dataset), "--conditions", "canny", "--shard-size", "256"]
    words += ["--conditions-from", str(DATA / f"depth-{count}")]
    subprocess.run([sys.executable, "-m", "controlmill", *words], check=True)
    return dataset


def export(dataset: Path, out: Path, table: str) -> None:
    """What `controlmill export --to webdataset` does, in one thread."""
    from controlmill.schemas.dataset import Dataset
    from controlmill.schemas.exports.job import export as write
    from controlmill.schemas.exports.plan import make_plan

    opened = Dataset.open(dataset)
    write(opened, make_plan(opened, "webdataset", [table], out), 1, lambda _: None)


def timed(way: str, dataset: Path, out: Path, table: str, cache: Path) -> float:
    """Seconds of processors of the work alone, in a process of its own; imports are not counted."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "benchmarks.export", "--do", way, str(dataset), str(out), table]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return float(ended.stdout.split()[-1])


def contents(folder: Path) -> list[bytes]:
    """All members in order: their bytes, or of PNG files their pixels."""
    import cv2
    import numpy as np

    def content(data: bytes) -> bytes:
        is_png = data.startswith(b"\x89PNG")
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).tobytes() if is_png else data

    found: list[bytes] = []
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            members = sorted(tar, key=lambda member: (member.name.split(".")[0], member.name.split(".", 1)[1]))
            found += [content(opened.read()) for member in members if (opened := tar.extractfile(member))]
    return found


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="photographs, a multiple of 250")
    parser.add_argument("--rounds", type=int, default=5, help="of each; medians are compared")
    parser.add_argument("--do", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.do:
        way, dataset, out, table = arguments.do
        import cv2  # noqa: F401
        import datasets  # noqa: F401
        import webdataset  # noqa: F401

        import controlmill.schemas.exports.targets.webdataset  # noqa: F401

        before = time.process_time()
        WAYS[way](Path(dataset), Path(out), table)
        print(time.process_time() - before)
        return
    dataset, cache = make_dataset(arguments.count), DATA / "export-cache"
    ours, loop = DATA / "export-ours", DATA / "export-loop"
    print(f"{processor_name()}, {os.cpu_count()} cores; {arguments.count} photographs of 512 pixels; processor time")
    for table in ("canny", "depth"):
        runs: dict[str, list[float]] = {"export": [], "loop, new cache": [], "loop, warm cache": []}
        for _ in range(arguments.rounds):
            shutil.rmtree(cache, ignore_errors=True)
            runs["export"].append(timed("export", dataset, ours, table, cache))
            runs["loop, new cache"].append(timed("loop", dataset, loop, table, cache))
            runs["loop, warm cache"].append(timed("loop", dataset, loop, table, cache))
        assert contents(ours) == contents(loop), "the same files are compared"
        ours_median = statistics.median(runs["export"])
        for name, spent in runs.items():
            median = statistics.median(spent)
            rate = arguments.count / median
            print(f"{table}, {name:16} {median:6.2f} s, {rate:6.0f} rows/s; {median / ours_median:.2f} x export")
    print("goal: the loop takes at least 1.5 times as long")


WAYS = {"export": export, "loop": plain_loop}

if __name__ == "__main__":
    main()
