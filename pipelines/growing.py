"""A dataset grows: `extend` lists more corpora, `retry` takes again what was refused. Both append segments of shards.

What is there already is not touched. New segments are named in ``dataset.json`` all at once, when all of them are
listed; until then, and until their images are made, ``_growing.json`` says what the command was asked for, so that the
same command, run again after it was killed, goes on and appends nothing twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import fingerprint
from controlmill.schemas.names import GROWING
from controlmill.schemas.segments import Growing, Segment
from controlmill.schemas.tables import SOURCES

from .corpora.corpus import Corpus, Source
from .corpora.download_options import DownloadOptions
from .corpora.hub import is_at_commit
from .corpora.kinds import check_kind
from .corpora.listing import batched, write_listing
from .corpora.passed_over import PassedOver
from .engine.mend import check_listing, mended
from .engine.owners import require_alone
from .engine.process import Resources
from .engine.run_folder import Run
from .ingestion import make_images, require_pictures
from .options import LimitOptions
from .refusals import to_take_again
from .stages.ingest import IngestConfig

LOOKED_UP = 4096  # names at a time
Listing = Callable[[Run], list[tuple[Segment, str]]]


@dataclass(frozen=True)
class Growth:
    """What a command has appended: the dataset as it is now, and its segments before."""

    dataset: Dataset
    segments_before: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The new ones."""
        return self.dataset.config.segments[self.segments_before :]

    @property
    def shards(self) -> range:
        """Their shards."""
        first = sum(segment.shards for segment in self.dataset.config.segments[: self.segments_before])
        return range(first, self.dataset.shards)


def extend(
    address: str,
    corpora: Sequence[Corpus],
    resources: Resources,
    config: IngestConfig,
    shard_size: int | None = None,
    limit: int = 0,
) -> Growth:
    """Append what corpora have and the dataset has not: a segment for each corpus with anything new.

    Args:
        address: of the dataset.
        corpora: what is listed. Pictures that were listed from the same address before are passed over, by their names.
        resources: what works.
        config: how pictures are taken in; resolution and fit are the dataset's.
        shard_size: pictures in a shard; None: by the number of pictures, as for a new dataset.
        limit: take only so many new pictures of each corpus, the first in its order; 0 for all.

    Raises:
        MillError: there is no dataset, or a corpus without pictures; see also :func:`ingestion.make_images`.
    """
    dataset = _dataset_to_grow(address)
    for corpus in corpora:
        require_pictures(corpus, (dataset.storage.address,))
    settings = plain(config.record())
    named = [[corpus.kind, corpus.address, corpus.listed_with()] for corpus in corpora]
    aim = {"extend": named, "ingest": settings, "shard_size": shard_size, "limit": limit}

    def listing(run: Run) -> list[tuple[Segment, str]]:
        appended: list[tuple[Segment, str]] = []
        for corpus in corpora:
            passed = PassedOver()
            listed = corpus.list(passed, (dataset.storage.address,))
            sources = _not_listed(corpus, listed, _listed_before(dataset, corpus), passed)
            first_shard = dataset.shards + sum(segment.shards for segment, _ in appended)
            taken = islice(sources, limit) if limit else sources
            segment = write_listing(dataset, run, taken, corpus.kind, first_shard, shard_size)
            if segment.rows:
                # where the listing was not gone through, only what was met on the way is known
                over = PassedOver(known=passed.known) if segment.rows == limit else passed
                settings, chosen = _other_settings(dataset, config), corpus.listed_with() or None
                segment = replace(segment, passed_over=over.said(), listed_with=chosen, ingest=settings)
                appended.append((segment, corpus.address))
        return appended

    return _grow(dataset, aim, listing, resources, config.downloads)


def retry(
    address: str,
    resources: Resources,
    reasons: Sequence[str] = (),
    limits: LimitOptions = LimitOptions(),  # noqa: B008 it is frozen
    downloads: DownloadOptions = DownloadOptions(),  # noqa: B008 it is frozen
) -> Growth:
    """Take again what was refused: a segment for each one that has such pictures, with just these.

    Args:
        address: of the dataset.
        resources: what works.
        reasons: take what was refused for these; none: for those that may have passed (:mod:`refusals`).
        limits: how pictures are taken in otherwise than before.
        downloads: how pictures of URL lists are fetched.

    Raises:
        MillError: there is no dataset, or it is not known where its pictures are; see :func:`ingestion.make_images`.
    """
    dataset = _dataset_to_grow(address)
    aim = {"retry": sorted(reasons), "ingest": vars(limits)}

    def listing(run: Run) -> list[tuple[Segment, str]]:
        appended: list[tuple[Segment, str]] = []
        for number, segment in enumerate(dataset.config.segments):
            if segment.retries is not None:
                continue
            first_shard = dataset.shards + sum(new.shards for new, _ in appended)
            retried: Counter[str] = Counter()
            sources = to_take_again(dataset, number, reasons, retried)
            new = write_listing(dataset, run, sources, segment.corpus, first_shard, segment.shard_size)
            if new.rows:
                settings = _other_settings(dataset, limits.changed(IngestConfig.of(dataset, number)))
                new = replace(new, listed_with=segment.listed_with, ingest=settings, retries=number)
                new = replace(new, retried=dict(sorted(retried.items())))
                appended.append((new, dataset.corpora[number]))
        return appended

    return _grow(dataset, aim, listing, resources, downloads)


def as_begun(dataset: Dataset, address: str) -> str:
    """An address on the Hub at the commit at which an extend that was stopped has listed it; any other as it is."""
    begun = dataset.storage.read_json(GROWING, Growing)
    listed = dataset.corpora[begun.segments :] if begun else []
    return next((there for there in listed if is_at_commit(there, address)), address)


def _dataset_to_grow(address: str) -> Dataset:
    dataset = mended(address)
    if not dataset.config.segments:
        raise MillError(f"{address} has nothing listed yet: run the ingest command again to go on with it")
    for segment in dataset.config.segments:
        check_kind(segment.corpus, address)
    require_alone(dataset.storage)
    _drop_unlisted(dataset)
    check_listing(dataset)
    return dataset


def _drop_unlisted(dataset: Dataset) -> None:
    """Remove the listing of a command that was killed before it was whole."""
    for shard in dataset.committed(SOURCES):
        if shard >= dataset.shards:
            dataset.storage.remove(dataset.file(SOURCES, shard))


def _grow(
    dataset: Dataset, aim: dict[str, Any], listing: Listing, resources: Resources, downloads: DownloadOptions
) -> Growth:
    """Append segments and make their images; or go on with it."""
    storage, wanted = dataset.storage, fingerprint(aim)
    begun = storage.read_json(GROWING, Growing)
    if begun is None or begun.aim != wanted:
        make_images(dataset, resources, downloads=downloads)  # of a command that was killed, and is not asked for again
        dataset = Dataset.open(storage.address)
        begun = Growing(wanted, len(dataset.config.segments))
        storage.write_json(GROWING, begun)
    if len(dataset.config.segments) <= begun.segments:
        run = Run.start(storage)
        try:
            appended = listing(run)
        finally:
            run.end()
        if appended:
            dataset.append([segment for segment, _ in appended], [address for _, address in appended])
    make_images(dataset, resources, downloads=downloads)
    storage.remove(GROWING)
    return Growth(Dataset.open(storage.address), begun.segments)


def _other_settings(dataset: Dataset, config: IngestConfig) -> Any:
    """The settings as a segment has them: none where they are the dataset's."""
    record = config.record()
    return None if record == dataset.config.ingest else record


# what was listed before


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _listed_before(dataset: Dataset, corpus: Corpus) -> np.ndarray:
    """Hashes of what was listed from a corpus before, sorted: 16 bytes a picture."""
    hashes = bytearray()
    for segment, address in zip(dataset.config.segments, dataset.corpora, strict=True):
        same = (segment.corpus, address.rstrip("/")) == (corpus.kind, corpus.address.rstrip("/"))
        if segment.retries is not None or not same:
            continue
        for shard in segment.range:
            with dataset.parquet(SOURCES, shard) as parquet:
                for row in read_rows(parquet, ["source", "locator"]):
                    hashes += _hash(corpus.identity(Source(**row)))
    found = np.frombuffer(hashes, "S16")
    found.sort()  # in place
    return found


def _not_listed(corpus: Corpus, sources: Iterator[Source], before: np.ndarray, passed: PassedOver) -> Iterator[Source]:
    """The sources that were not listed before; the others are counted."""
    for part in batched(sources, LOOKED_UP):
        hashes = np.array([_hash(corpus.identity(source)) for source in part], "S16")
        places = np.searchsorted(before, hashes)
        for source, found, place in zip(part, hashes, places, strict=True):
            if place < len(before) and before[place] == found:
                passed.known += 1
            else:
                yield source
