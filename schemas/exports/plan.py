"""What an export takes and makes: tables, captions, how shards become parts, and a digest of all that decides bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dataset import Dataset
from ..errors import MillError
from ..fingerprint import fingerprint
from ..kinds import Kind
from ..records import Index
from ..tables import IMAGES
from ..views.rows import complete_tables

VERSION = 2  # of the bytes that are written for the same tables
MOST_ROWS = 10_000  # of a part


@dataclass(frozen=True)
class Plan:
    """An export.

    Args:
        target: the name of the layout, of :data:`targets.TARGETS`.
        conditions: table → kind of its maps, in the order in which they were asked for.
        captions: the table that has the captions.
        images: the index of the images.
        resolution: of the pictures: a side of a square one; of others, of the square with their area at most.
        is_square: whether all pictures are of ``resolution`` × ``resolution`` pixels.
        folder: where the export will be, absolute.
        sha256: of all that decides what is written, but the folder.
    """

    target: str
    conditions: dict[str, Kind]
    captions: str
    images: Index
    resolution: int
    is_square: bool
    folder: Path
    sha256: str

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables of conditions."""
        return tuple(self.conditions)

    @property
    def name(self) -> str:
        """Of what is trained, for configuration files."""
        return f"control-{'-'.join(self.tables)}"

    def parts(self, most_bytes: int) -> list[range]:
        """Shards that are written together: consecutive ones, of ``most_bytes`` of pictures unless one has more.

        They have no more than :data:`MOST_ROWS` pictures either, which may be files of one folder.
        """
        parts: list[range] = []
        size = rows = 0
        for shard, entry in enumerate(self.images.shards):
            size, rows = size + entry.bytes, rows + entry.rows
            if parts and size <= most_bytes and rows <= MOST_ROWS:
                parts[-1] = range(parts[-1].start, shard + 1)
            else:
                parts.append(range(shard, shard + 1))
                size, rows = entry.bytes, entry.rows
        return parts


def make_plan(dataset: Dataset, target: str, conditions: Sequence[str], folder: Path) -> Plan:
    """What is to be exported.

    Args:
        dataset: from where.
        target: the name of the layout.
        conditions: tables of maps, or nothing: all.
        folder: where the export will be.

    Raises:
        MillError: a table is not complete, or has no maps; the captions are not complete.
    """
    complete = complete_tables(dataset)
    kinds = {table: dataset.condition(table).kind for table in complete if table != IMAGES}
    maps = {table: kind for table, kind in kinds.items() if kind != "text"}
    asked = tuple(dict.fromkeys(conditions)) or tuple(maps)
    lacking = [table for table in asked if table not in maps]
    if lacking or not asked:
        raise MillError(
            f"--conditions {','.join(asked) or 'of none'}: {dataset.storage.address} has no complete table of maps "
            f"{', '.join(lacking)}".rstrip()
            + f"; there are: {', '.join(maps) or 'none'}"
        )
    images, captions = dataset.index(IMAGES), dataset.captions().table
    assert images is not None
    ingest = dataset.config.ingest
    digests = {table: _digests(dataset, table) for table in dict.fromkeys((IMAGES, captions, *asked))}
    return Plan(
        target=target,
        conditions={table: maps[table] for table in asked},
        captions=captions,
        images=images,
        resolution=ingest.resolution,
        is_square=ingest.fit == "crop",
        folder=folder,
        sha256=fingerprint([VERSION, target, asked, captions, digests]),
    )


def _digests(dataset: Dataset, table: str) -> list[str]:
    index = dataset.index(table)
    assert index is not None
    return index.digests
