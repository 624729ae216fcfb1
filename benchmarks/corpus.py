"""A corpus of photographs for benchmarks: cut from the ones that scikit-image carries, the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from controlmill.schemas.images.scaling import Window
from recipes.demo import PHOTOGRAPHS


def write_photographs(folder: Path, count: int, long_side: int = 1500) -> Path:
    """``count`` JPEGs of about ``long_side`` pixels in ``folder``, made once; every one is another cut."""
    import skimage.data

    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.rglob("*.jpg"))) == count:
        return folder
    carried = Path(skimage.data.__file__).parent
    photographs = [Image.open(carried / name).convert("RGB") for name in PHOTOGRAPHS]
    rng = np.random.default_rng(0)
    for number in range(count):
        whole = photographs[number % len(photographs)]
        share = rng.uniform(0.6, 1.0)
        w, h = int(whole.width * share), int(whole.height * share)
        x, y = int(rng.integers(whole.width - w + 1)), int(rng.integers(whole.height - h + 1))
        scale = long_side / max(w, h)
        cut = whole.resize((round(w * scale), round(h * scale)), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
        path = folder / f"{number // 250:02d}" / f"{number:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        cut.save(path, quality=90)
    return folder


def by_pillow(picture: Image.Image, box: Window, size: tuple[int, int]) -> Image.Image:
    """As most programs scale down."""
    return picture.resize(size, Image.Resampling.LANCZOS, box=box)


def square(
    picture: Image.Image, scale_to: Callable[[Image.Image, Window, tuple[int, int]], Image.Image] = by_pillow
) -> Image.Image:
    """The middle of a picture, 512 by 512, cut as ingest does: a JPEG is decoded at reduced scale."""
    w, h = picture.size
    side = min(w, h)
    picture.draft("RGB", (w * 768 // side + 1, h * 768 // side + 1))
    scale = picture.width / w
    x, y = (w - side) // 2 * scale, (h - side) // 2 * scale
    box = (x, y, min(x + side * scale, picture.width), min(y + side * scale, picture.height))
    picture.load()
    return scale_to(picture, box, (512, 512))


def repeat(folder: Path, target: Path, times: int) -> Path:
    """The corpus ``times`` over, by hard links."""
    for time in range(times):
        for path in folder.rglob("*.jpg"):
            link = target / str(time) / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.link(path, link)
    return target
