"""The listing of a corpus as the table ``sources``: cut into shards, and committed before any work starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

from controlmill.schemas.bounds import MAX_SHARDS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import LISTED_GROUP_ROWS
from controlmill.schemas.segments import Segment
from controlmill.schemas.tables import SOURCES, TABLES

from ..engine.run_folder import Run
from .corpus import Source

LARGEST_SHARD = 512
LISTING = {"table": SOURCES, "kind": SOURCES, "listing": {"version": 4}}
SHARDS = 16  # that a small corpus is cut into, so that several workers share it
T = TypeVar("T")


def write_listing(
    dataset: Dataset,
    run: Run,
    sources: Iterator[Source],
    corpus: str,
    first_shard: int = 0,
    shard_size: int | None = None,
) -> Segment:
    """Commit the listing shard by shard.

    Args:
        dataset: where.
        run: the run that does it.
        sources: what is listed.
        corpus: the kind of corpus.
        first_shard: where the shards begin.
        shard_size: pictures in a shard; None: decided here, by the number of pictures.

    Returns:
        The segment that it makes, without what was passed over.

    Raises:
        MillError: more shards than a dataset can have.
    """
    if shard_size is None:
        first = list(islice(sources, SHARDS * LARGEST_SHARD))
        shard_size = shard_size_for(len(first))
        sources = chain(first, sources)
    shard, rows = first_shard, 0
    for part in batched(sources, shard_size):
        if shard == MAX_SHARDS:
            raise MillError(
                f"a dataset has at most {MAX_SHARDS:,} shards and with {shard_size:,} pictures in each it has more: "
                f"choose larger ones (--shard-size {4 * shard_size}), or make a dataset of each part of the corpus"
            )
        with dataset.committing(run.id, SOURCES, shard, TABLES[SOURCES].schema, LISTING) as writer:
            for group in batched(part, LISTED_GROUP_ROWS):
                writer.write_group([source._asdict() for source in group])
        shard, rows = shard + 1, rows + len(part)
    dataset.storage.keep_names(dataset.folder(SOURCES))
    return Segment(first_shard, shard - first_shard, rows, shard_size, corpus)


def shard_size_for(pictures: int) -> int:
    """Pictures in a shard of a corpus: about a 16th of it, in multiples of 16, at most 512.

    It follows from the listing alone, so that the bytes of a dataset do not depend on who makes it. Multiples of 16 are
    full batches on a CPU.
    """
    step = 16
    return min(LARGEST_SHARD, step * max(1, -(-pictures // (SHARDS * step))))


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Tuples of ``size`` items, the last one shorter (itertools has it from Python 3.12)."""
    iterator = iter(items)
    while part := tuple(islice(iterator, size)):
        yield part
