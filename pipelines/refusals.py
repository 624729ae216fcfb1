"""What was refused of a dataset, found again in its listing, to be taken once more."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import sha256_bytes
from controlmill.schemas.retries import column_of, retried_rejects
from controlmill.schemas.tables import IMAGES, REJECTED, SOURCES

from .corpora.corpus import Corpus, Source
from .ingestion import corpus_of

AGAIN = (  # reasons that may have changed; others follow from the settings, or from what a site asks for
    *("missing", "unreadable", "changed", "truncated", "not_an_image", "out_of_memory", "killed_worker", "failed"),
    *("timeout", "http_error", "too_many_redirects"),
)
OF_THE_BYTES = ("truncated", "not_an_image")  # the same bytes are refused again


def to_take_again(dataset: Dataset, number: int, reasons: Sequence[str], retried: Counter[str]) -> Iterator[Source]:
    """What is to be taken again of a segment and of its retries, as it would be listed now; counted by reason.

    Args:
        dataset: whose.
        number: of the segment.
        reasons: for which it was refused; none: for :data:`AGAIN`, but for files that are seen to be unchanged.
        retried: is added to.

    Raises:
        MillError: what was refused was not listed; or it is not known where the pictures are, or they cannot be read.
    """
    segments = dataset.config.segments
    parts = [part for n, part in enumerate(segments) if number in (n, part.retries)]
    again = retried_rejects(dataset)
    corpus: Corpus | None = None
    for shard in (shard for part in parts for shard in part.range):
        listed: list[Source] | None = None
        with dataset.parquet(REJECTED, shard) as parquet:
            for row, reject in enumerate(read_rows(parquet, ["reason"])):
                reason = reject["reason"]
                if reason not in (reasons or AGAIN) or (shard, row) in again:
                    continue
                corpus = corpus or corpus_of(dataset, number)
                listed = refused_sources(dataset, shard, corpus) if listed is None else listed
                source = listed[row]
                now = corpus.as_now(source)
                if _may_pass(corpus, source, now, reason, is_asked_for=bool(reasons)):
                    retried[reason] += 1
                    yield now._replace(retries_shard=shard, retries_row=row)


def _may_pass(corpus: Corpus, source: Source, now: Source, reason: str, is_asked_for: bool) -> bool:
    """Whether taking a source again, as it is now, can come to anything else."""
    if source.fault:  # the listing says so
        return False
    if reason == "changed":  # of an archive, what was listed says nothing of another one
        return corpus.is_as_listed(now)
    unchanged = source.etag is not None and (now.size, now.etag) == (source.size, source.etag)
    return is_asked_for or reason not in OF_THE_BYTES or not unchanged


def refused_sources(dataset: Dataset, shard: int, corpus: Corpus) -> list[Source]:
    """What was refused of a shard, as it was listed, by its row in ``rejected``.

    Where pictures of one name were kept and refused, those that might be either are read from the corpus, and compared
    with what was kept.

    Raises:
        MillError: what was refused was not listed; or the corpus cannot be read.
    """
    names = column_of(dataset, REJECTED, shard, "source")
    listed: dict[str, list[Source]] = {name: [] for name in names}
    for row in _rows(dataset, SOURCES, shard):
        if row["source"] in listed:
            listed[row["source"]].append(Source(**row))
    kept: defaultdict[str, list[str]] = defaultdict(list)
    if any(len(sources) > 1 for sources in listed.values()):
        for row in _rows(dataset, IMAGES, shard, "source", "sha256"):
            kept[row["source"]].append(row["sha256"])
    max_bytes = dataset.config.ingest_of(dataset.config.segment_of(shard)).limits.max_bytes
    refused = {name: _not_kept(sources, kept[name], corpus, max_bytes) for name, sources in listed.items()}
    found = [next(refused[name], None) for name in names]
    sources = [source for source in found if source is not None]
    if len(sources) < len(names):
        raise MillError(f"{dataset.file(REJECTED, shard)} names what was not listed: controlmill verify tells more")
    return sources


def _rows(dataset: Dataset, table: str, shard: int, *columns: str) -> Iterator[dict[str, Any]]:
    with dataset.parquet(table, shard) as parquet:
        yield from read_rows(parquet, list(columns) or None)


def _not_kept(sources: Sequence[Source], kept: Sequence[str], corpus: Corpus, max_bytes: int) -> Iterator[Source]:
    """Of sources of one name those that were not kept; ``kept`` are the digests of the others, in the same order."""
    left = deque(kept)
    are_one = len({corpus.identity(source) for source in sources}) == 1
    for number, source in enumerate(sources):
        rest_is_kept = len(left) == len(sources) - number
        if left and (rest_is_kept or (not are_one and _is(source, left[0], corpus, max_bytes))):
            left.popleft()
        else:
            yield source


def _is(source: Source, digest: str, corpus: Corpus, max_bytes: int) -> bool:
    """Whether a source has the bytes of a digest."""
    if source.fault:
        return False
    try:
        record = corpus.read(source, max_bytes)
    except Refused:
        return False
    record.release()
    return sha256_bytes(record.data) == digest
