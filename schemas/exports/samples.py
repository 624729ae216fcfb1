"""Rows as other trainers take them: a picture, its maps at 8 bits and a caption, all as bytes; and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..dataset import Dataset
from ..errors import MillError
from ..images.codecs import PNG, decode_image, decode_map, encode_map
from ..kinds import Kind
from ..tables import IMAGES
from ..terminal.printing import printable
from ..views.rows import aligned_groups
from .plan import Plan

SMOOTH = (*PNG, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)  # half the time of a filter chosen for each line
PNG_START = b"\x89PNG\r\n\x1a\n"
STARTS = {b"\xff\xd8\xff": "jpg", PNG_START: "png"}


@dataclass(frozen=True)
class Sample:
    """A row with all that was asked for.

    Args:
        shard, row: where it stands in the dataset: what its files are named by, since a key can occur twice.
        key: of its row.
        width, height: in pixels.
        image: the stored picture, a JPEG, PNG or WebP file.
        ending: the usual ending of such a file.
        maps: table → PNG file of 8 bits.
        caption: one line; empty where there is none.
    """

    shard: int
    row: int
    key: str
    width: int
    height: int
    image: bytes
    ending: str
    maps: dict[str, bytes]
    caption: str

    @property
    def name(self) -> str:
        """Of its files. All are of one length, without ``_`` and ``.``: no name begins another, or ends one early."""
        return f"{self.shard:08d}-{self.row:06d}"


def read_samples(
    dataset: Dataset, plan: Plan, shards: Iterable[int], dropped: Counter[str], pool: Executor
) -> Iterator[Sample]:
    """Samples of some shards in order; a row group is in memory at a time.

    Args:
        dataset: where the rows are.
        plan: which tables.
        shards: which.
        dropped: is added to: why rows are left out (``depth: failed``), by the first map that they lack.
        pool: where 16-bit maps are encoded again.

    Raises:
        MillError: a table is damaged, or a picture of it is none.
    """
    columns = {IMAGES: ["image", "width", "height", "caption"], **{table: ["map", "reason"] for table in plan.tables}}
    if plan.captions != IMAGES:
        columns[plan.captions] = ["caption"]
    for shard in shards:
        for start, read in aligned_groups(dataset, shard, columns):
            rows = {table: part.to_pylist() for table, part in read.items()}
            jobs = []
            for number in range(len(rows[IMAGES])):
                stored = {table: part[number] for table, part in rows.items()}
                lacking = next((table for table in plan.tables if stored[table]["map"] is None), None)
                if lacking is None:
                    jobs.append((shard, start + number, stored, plan))
                else:
                    dropped[f"{lacking}: {printable(stored[lacking]['reason'])}"] += 1
            yield from pool.map(_sample, jobs) if "gray16" in plan.conditions.values() else map(_sample, jobs)


def _sample(job: tuple[int, int, dict[str, dict[str, Any]], Plan]) -> Sample:
    shard, row, stored, plan = job
    image, table = stored[IMAGES], IMAGES
    size = image["height"], image["width"]
    try:
        data = image["image"]["bytes"] or b""
        ending = _ending(data)
        maps = {}
        for table, kind in plan.conditions.items():
            maps[table] = eight_bits(kind, stored[table]["map"]["bytes"] or b"", size)
    except (ValueError, TypeError) as error:
        raise damaged(shard, row, table, error) from error
    caption = " ".join((stored[plan.captions]["caption"] or "").split())
    return Sample(shard, row, image["key"], size[1], size[0], data, ending, maps, caption)


def _ending(data: bytes) -> str:
    """Of a picture's file, by its first bytes: what a dataset says is no name to write a file under."""
    for start, ending in STARTS.items():
        if data.startswith(start):
            return ending
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise ValueError("is no JPEG, PNG or WebP")


def eight_bits(kind: Kind, data: bytes, size: tuple[int, int]) -> bytes:
    """A stored map as a PNG that ``PIL.Image.convert("RGB")`` reads rightly; only 16 bits are encoded again.

    Args:
        kind: of the map. Of ``gray16`` the upper 8 bits stay, as RGB: Pillow clips 16 bits at 255.
        data: the stored PNG.
        size: (height, width) that it must have.

    Raises:
        ValueError: it is no PNG, or of another size.
    """
    if kind != "gray16":
        if not data.startswith(PNG_START) or data[16:24] != b"".join(side.to_bytes(4, "big") for side in size[::-1]):
            raise ValueError(f"is no PNG of {size[1]}x{size[0]}")
        return data
    grey = (decode_map(kind, data, size) >> 8).astype(np.uint8)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), SMOOTH)
    if not done:
        raise ValueError("cannot be encoded by OpenCV")
    return encoded.tobytes()


def lossless(sample: Sample) -> bytes:
    """The picture as PNG; one that is PNG already stays.

    Raises:
        MillError: it cannot be decoded.
    """
    if sample.ending == "png":
        return sample.image
    try:
        return encode_map("rgb", decode_image(sample.image, (sample.height, sample.width)))
    except ValueError as error:
        raise damaged(sample.shard, sample.row, IMAGES, error) from error


def damaged(shard: int, row: int, table: str, error: Exception) -> MillError:
    """What a row that cannot be exported is for a user."""
    return MillError(f"{table}, shard {shard}, row {row}: damaged: it {error}; controlmill verify tells more")
