"""Labels and pictures counted against each other, before any label is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.tables import IMAGES, SOURCES
from controlmill.schemas.terminal.printing import printable

from .index import NAMED
from .source import LabelSource


def match_lines(dataset: Dataset, source: LabelSource) -> list[str]:
    """How many pictures have a label, how many have none; how many labels are no picture's, or several's; by name.

    The pictures are those that were kept, or where that is not known yet those that were listed.

    Raises:
        MillError: no picture has one.
    """
    labels, what = source.listed(), source.what
    count, pictures, without = labels.index.count(), 0, Counter[str]()
    first: dict[str, list[str]] = {}
    for picture in _pictures(dataset):
        pictures += 1
        try:
            labels.index.use(labels.find(picture))
        except Refused as refused:
            without[refused.reason] += 1
            first.setdefault(refused.reason, []).append(picture)
            del first[refused.reason][NAMED:]
    unused, paths = labels.index.unused()
    found = pictures - without.total()
    if not found:
        names = [f"pictures are {_names(first[min(first)])}"] if first else []
        names += [f"{what}s are {_names(paths)}"] if paths else []
        shown = f" (the first {', the first '.join(names)})" if names else ""
        raise MillError(
            f"none of {pictures:,} pictures has one of the {count:,} {what}s in {source.place}{source.rule}{shown}"
        )
    lines = [f"{found:,} of {pictures:,} pictures have a {what}"]
    for reason, rows in sorted(without.items()):
        why = "have none" if reason == "missing" else f"are {reason}: several {what}s may be theirs"
        lines.append(f"{rows:,} pictures {why}, and become nulls: {_names(first[reason], rows)}")
    shared, paths_shared = labels.index.shared()
    if shared:
        lines.append(f"{shared:,} {what}s are taken for several pictures each: {_names(paths_shared, shared)}")
    if unused:
        lines.append(f"{unused:,} of {count:,} {what}s belong to no picture here: {_names(paths, unused)}")
    return [f"{source.condition.table}: {line}" for line in lines]


def _pictures(dataset: Dataset) -> Iterator[str]:
    """The names of pictures in their corpus."""
    table = IMAGES if dataset.whole_index(IMAGES) else SOURCES
    for shard in sorted(dataset.committed(table)):
        with dataset.parquet(table, shard) as rows:
            yield from (row["source"] for row in read_rows(rows, ["source"]))


def _names(names: Sequence[str], count: int = 0) -> str:
    return printable(", ".join(names)) + (", …" if count > len(names) else "")
