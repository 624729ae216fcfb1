"""Before a job: a switch that was cut off is ended, files that cannot be what was committed are set aside.

After it: a table that was made anew takes the place of the old one. What is put right here needs no work done again
but that of the files which are lost.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Damaged, MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.names import GROWING, SHARD_NAME, SHARDS_PER_FOLDER
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.records import Index
from controlmill.schemas.tables import BASE_TABLES, CAPTIONS

from .owners import require_alone
from .run_folder import Run

ASIDE = f"{redo.REDO}/_damaged"


def mended(address: str | os.PathLike[str]) -> Dataset:
    """A dataset, opened to work on it: with no switch cut off, and with the index of images that are all there.

    Raises:
        MillError: there is none; or another job works on it and something is to be mended.
    """
    dataset = Dataset.open(address)
    cut = redo.cut_switches(dataset.storage)
    if cut:
        switch(dataset, cut)
        dataset = Dataset.open(address)
    if dataset.shards and dataset.whole_index("images") is None and len(dataset.committed("images")) == dataset.shards:
        try:
            dataset.finish("images", changed=())
        except Damaged:  # ingest makes the file again
            return dataset
    return dataset


def start_or_resume_redo(dataset: Dataset, name: str, wanted: Mapping[str, Any]) -> bool:
    """Start making a table anew, or go on with a redo that has the same aim; one with another aim is removed.

    Returns:
        Whether anything is left to make: not where the new table is in its place and the command was cut off after.

    Raises:
        MillError: another job works on the dataset.
    """
    state = redo.state(dataset.storage, name, wanted)
    if state is None:
        require_alone(dataset.storage)
        redo.begin(dataset.storage, name, wanted)
    return state != redo.DONE


def redo_aim(dataset: Dataset, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a redo of an aligned table aims at: its provenance, and the images that it is made from."""
    images, encoded = dataset.index("images"), said.get("captions") or {}
    captions = dataset.index(CAPTIONS) if encoded.get("table") == CAPTIONS else None
    made_from = {"images": images.digests if images else []}
    return {"said": said, **made_from, **({"captions": captions.digests} if captions else {})}


def switch(dataset: Dataset, names: list[str]) -> None:
    """Put tables that are complete in ``_redo`` in their places.

    Raises:
        MillError: another job works on the dataset; the same command goes on from here.
    """
    run = Run.start(dataset.storage)  # so that others see that this one is at it
    try:
        try:
            require_alone(dataset.storage)
        except MillError as error:
            raise MillError(f"the new {', '.join(names)} is complete, but not in its place: {error}") from error
        for name in names:
            redo.switch(dataset.storage, name)
    finally:
        run.end()


@dataclass
class Committed:
    """What is committed of a table, looked at: (provenance, shard) as made, stale shards, faults of files by shard."""

    made: list[tuple[Provenance, int]] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)


def look_at(dataset: Dataset, table: str) -> Committed:
    """How the committed shards of a table were made, and which are damaged: by their sizes, or else their footers.

    Raises:
        MillError: there are files that belong to no shard.
    """
    index, images = dataset.index(table), dataset.index("images")
    found = Committed()
    known = len(index.shards) if index and len(index.shards) <= dataset.shards else 0
    if index and known:
        found.stale = dataset.stale_shards(table, index)
        starts = [segment.first_shard for segment in dataset.config.segments if segment.first_shard < known]
        found.made = [(index.made(shard), shard) for shard in starts]
        if found.stale:
            return found
        found.damaged = _misfits(dataset, table, index)
    captions = dataset.index(CAPTIONS) if table not in BASE_TABLES else None
    for shard in sorted(shard for shard in dataset.committed(table) if shard >= known):
        try:
            made = dataset.footer(table, shard).provenance
        except Damaged as error:
            found.damaged[shard] = str(error)
            continue
        found.made.append((made.shared, shard))
        if _is_other(made.images_sha256, images, shard) or _is_other(made.captions_sha256, captions, shard):
            found.stale.append(shard)
    return found


def _is_other(made_from: str | None, index: Index | None, shard: int) -> bool:
    """Whether a file was made from another one than the shard's that is there now, as far as that is known."""
    return made_from is not None and index is not None and index.digests[shard : shard + 1] != [made_from]


def _misfits(dataset: Dataset, table: str, index: Index) -> dict[int, str]:
    """Shards whose file has not the size of the index, which a listing tells."""
    folder = dataset.folder(table)
    wrong: dict[int, str] = {}
    surplus: list[str] = []
    for part in dataset.storage.folders(folder):
        for name, size in dataset.storage.files(f"{folder}/{part}").items():
            shard = int(name[:8]) if SHARD_NAME.fullmatch(name) else -1
            if part != f"{shard // SHARDS_PER_FOLDER:04d}" or not 0 <= shard < dataset.shards:
                surplus += [f"{folder}/{part}/{name}"] if name.endswith(".parquet") else []
            elif shard < len(index.shards) and size != index.shards[shard].bytes:
                wrong[shard] = f"{folder}/{part}/{name} has {size:,} bytes, not {index.shards[shard].bytes:,}"
    if surplus and dataset.storage.exists(GROWING):
        raise MillError(f"{dataset.storage.address}: extend or retry was stopped as it listed pictures; run it again")
    if surplus:
        raise MillError(
            f"{dataset.storage.path(surplus[0])} is no file of the {dataset.shards} shards, but readers of the "
            f"folder take it ({len(surplus)} such in {table}): move it out of the dataset, then run the command again"
        )
    return wrong


def others_damaged(dataset: Dataset, tables: Sequence[str]) -> list[str]:
    """What a listing shows to be wrong with complete tables beside those of a command, in lines."""
    lines = []
    for table in dataset.tables():
        index = dataset.index(table)
        if table in (*tables, *BASE_TABLES) or index is None or len(index.shards) != dataset.shards:
            continue
        try:
            wrong = list(_misfits(dataset, table, index).values())
        except MillError as error:
            wrong = [str(error)]
        missing = sorted(set(range(dataset.shards)) - dataset.committed(table))
        wrong += [f"{dataset.file(table, shard)} is missing" for shard in missing]
        if wrong:
            lines.append(f"{table} is damaged: {wrong[0]} ({len(wrong)} such); the command that made it mends it")
    return lines


def check_committed(
    dataset: Dataset, table: str, wanted: Mapping[str, Any], shards: Collection[int] | None = None
) -> dict[int, str]:
    """Look at how the committed shards of a table were made (None: all of them); the damaged ones, with what is wrong.

    Raises:
        MillError: in another way than ``wanted``, or from other images than are there now; the difference is named.
    """
    found = look_at(dataset, table)
    cost = "; all tables made from them are then to be redone too" if table == "images" else ""
    for made, shard in found.made:
        if shards is not None and shard not in shards:
            continue
        changed = differences(plain(made), wanted)
        if changed:
            raise MillError(
                f"{table} was made in another way (shard {shard}); what differs:\n  "
                + "\n  ".join(changed)
                + f"\nask for the same again, or redo it: --overwrite {table}{cost}"
            )
    if found.stale:
        raise MillError(
            f"{table} is stale: {len(found.stale)} shards were made from other images, or captions, than are "
            f"there now; --overwrite {table} redoes it"
        )
    return {shard: fault for shard, fault in found.damaged.items() if shards is None or shard in shards}


def check_listing(dataset: Dataset) -> None:
    """Look at the listing, which is the one table that cannot be made again.

    Raises:
        MillError: a file of it is damaged or missing.
    """
    found = look_at(dataset, "sources")
    missing = sorted(set(range(dataset.shards)) - dataset.committed("sources"))
    wrong = [*found.damaged.values(), *(f"{dataset.file('sources', shard)} is missing" for shard in missing)]
    if wrong:
        raise MillError(
            f"{wrong[0]} ({len(wrong)} such): the listing cannot be made again, restore it from a copy. Without it all "
            "other tables stay as they are and can be used; --overwrite images lists anew, and makes them stale"
        )


def set_aside(dataset: Dataset, table: str, damaged: Mapping[int, str]) -> None:
    """Move damaged files away, so that their shards are made again, to the same bytes.

    Raises:
        MillError: another job works on the dataset.
    """
    if damaged:
        require_alone(dataset.storage)
    for shard in damaged:
        dataset.storage.move(dataset.file(table, shard), f"{ASIDE}/{table}/{shard:08d}.parquet")


def clear_aside(dataset: Dataset, table: str) -> None:
    """The table is whole again: what was set aside of it goes."""
    if dataset.storage.exists(f"{ASIDE}/{table}"):
        dataset.storage.remove(f"{ASIDE}/{table}")
        dataset.storage.prune(redo.REDO)
