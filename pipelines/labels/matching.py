"""Labels and pictures counted against each other, before any label is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.tables import IMAGES
from controlmill.schemas.terminal.printing import printable

from .index import NAMED
from .source import IndexedLabels, LabelSource


def match_lines(dataset: Dataset, source: LabelSource) -> list[str]:
    """How many pictures have a label, how many have none; how many labels are no picture's, or several's; by name.

    Raises:
        MillError: no picture has one.
    """
    labels = source.open()
    assert isinstance(labels, IndexedLabels)
    count, pictures, without = labels.index.count(), 0, Counter[str]()
    first: dict[str, list[str]] = {}
    for shard in sorted(dataset.committed(IMAGES)):
        with dataset.parquet(IMAGES, shard) as images:
            for row in read_rows(images, ["source"]):
                pictures += 1
                try:
                    labels.index.use(labels.find(row["source"]))
                except Refused as refused:
                    without[refused.reason] += 1
                    first.setdefault(refused.reason, []).append(row["source"])
                    del first[refused.reason][NAMED:]
    unused, paths = labels.index.unused()
    found = pictures - without.total()
    if not found:
        pair = f" (the first picture is {_names(first[min(first)])})" if first else ""
        label = f", the first label {_names(paths)}" if paths else ""
        raise MillError(f"none of {pictures:,} pictures has one of the {count:,} labels in {source.place}{pair}{label}")
    lines = [f"{found:,} of {pictures:,} pictures have a label"]
    for reason, rows in sorted(without.items()):
        what = "have none" if reason == "missing" else f"are {reason}: several labels may be theirs"
        lines.append(f"{rows:,} pictures {what}, and become nulls: {_names(first[reason], rows)}")
    shared, paths_shared = labels.index.shared()
    if shared:
        lines.append(f"{shared:,} labels are taken for several pictures each: {_names(paths_shared, shared)}")
    if unused:
        lines.append(f"{unused:,} of {count:,} labels belong to no picture here: {_names(paths, unused)}")
    return lines


def _names(names: Sequence[str], count: int = 0) -> str:
    return printable(", ".join(names)) + (", …" if count > len(names) else "")
