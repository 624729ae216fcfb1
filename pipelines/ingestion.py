"""Ingest a corpus: list it, and make its ``images`` and ``rejected`` tables.

Everything that can be found wrong is found before work starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.records import Segment
from controlmill.schemas.views.accounting import passed_over_lines

from .corpora.corpus import Corpus, PassedOver, Source, write_listing
from .corpora.hub import SCHEME, pinned
from .corpora.kinds import absolute, check_kind, open_corpus
from .engine.console import run_stage
from .engine.mend import check_committed, check_listing, look_at, mended, set_aside, start_or_resume_redo
from .engine.process import Resources
from .engine.run_folder import Run, require_alone
from .stages.ingest import Ingest, IngestConfig

SAMPLED_SOURCES = 50
LISTING = {"kind": "sources", "listing": {"version": 3}}


def check_ingest(
    photos: str,
    address: str,
    config: IngestConfig,
    shard_size: int | None,
    overwrite: Sequence[str],
    leave_out: Sequence[str] = (),
) -> None:
    """Find out what would stop an ingest, before anything is changed.

    ``leave_out`` are folders, of maps, that are not part of the corpus though they may be inside it.

    Raises:
        MillError: no such folder, no pictures in it, or a dataset that was made in another way.
    """
    corpus = open_corpus(at_commit(photos, address, overwrite), config.columns, config.downloads)
    if next(corpus.list(leave_out=(address, *leave_out)), None) is None:
        raise MillError(_no_pictures(corpus, (address, *leave_out)))
    if not Storage(address).exists("dataset.json") or "images" in overwrite:
        return
    dataset = mended(address)
    config = config.typed(corpus)
    before = {**plain(dataset.config.ingest), "shard_size": dataset.config.shard_size}
    changed = differences(before, {**config.provenance(), "shard_size": shard_size or dataset.config.shard_size})
    if changed:
        raise MillError(
            f"{address} was made with other settings; what differs:\n  "
            + "\n  ".join(changed)
            + "\nask for the same again, or redo the images (and then all that is made from them): --overwrite images"
        )
    if dataset.config.segments:
        check_listing(dataset)
    _check_corpus(dataset, corpus)


def at_commit(photos: str, address: str, overwrite: Sequence[str]) -> str:
    """The corpus's address; on the Hub at the commit that the dataset was listed from, where it goes on."""
    if not photos.startswith(SCHEME) or "images" in overwrite or not Storage(address).exists("dataset.json"):
        return photos
    segments = Dataset.open(address).config.segments
    return pinned(photos, (segments[0].listed_with or {}).get("commit") if segments else None)


def _no_pictures(corpus: Corpus, leave_out: Sequence[str]) -> str:
    passed = PassedOver()
    for _ in corpus.list(passed, leave_out):
        pass
    return "\n  ".join([corpus.nothing_listed(), *passed_over_lines(passed.said())])


def ingest(
    photos: str,
    address: str,
    config: IngestConfig,
    resources: Resources,
    shard_size: int | None = None,
    overwrite: Sequence[str] = (),
    leave_out: Sequence[str] = (),
) -> Dataset:
    """List a corpus and make its ``images`` and ``rejected`` tables; goes on where an earlier run stopped.

    Raises:
        MillError: see :func:`check_ingest` and :func:`console.run_stage`.
    """
    dataset = ingest_tables(photos, address, config, resources, shard_size, overwrite, leave_out)
    redo.end(dataset.storage, ["images"])
    return dataset


def ingest_tables(
    photos: str,
    address: str,
    config: IngestConfig,
    resources: Resources,
    shard_size: int | None,
    overwrite: Sequence[str],
    leave_out: Sequence[str],
) -> Dataset:
    """:func:`ingest`, as a part of work that goes on: a redo of the images is not ended."""
    check_ingest(photos, address, config, shard_size, overwrite, leave_out)
    corpus = open_corpus(absolute(at_commit(photos, address, overwrite)), config.columns, config.downloads)
    stage = Ingest(corpus, config.typed(corpus))
    if Storage(address).exists("dataset.json"):
        dataset = mended(address)
        aim = {**stage.provenance(), "shard_size": shard_size, "corpus": stage.corpus.address}
        if "images" in overwrite and start_or_resume_redo(dataset, "images", aim):
            dataset = dataset.redo_images(stage.config.record(), shard_size)
    else:
        dataset = Dataset.create(address, stage.config.record(), shard_size)
    if not dataset.config.segments:
        resources.process.start()
        _list(dataset, stage.corpus, leave_out)
    listed = dataset.index("sources") or dataset.finish("sources")
    rows = [entry.rows for entry in listed.shards]
    _set_lost_aside(dataset, stage)
    run_stage(dataset, stage, resources, rows)
    return Dataset.open(address)


def _set_lost_aside(dataset: Dataset, stage: Ingest) -> None:
    """Set damaged files aside. The images' file tells what was refused: where it is lost, both are made again."""
    set_aside(dataset, "images", check_committed(dataset, "images", stage.provenance()))
    lost = dataset.committed("rejected") - dataset.committed("images")
    set_aside(dataset, "rejected", {**look_at(dataset, "rejected").damaged, **dict.fromkeys(lost, "")})


def _list(dataset: Dataset, corpus: Corpus, leave_out: Sequence[str]) -> None:
    require_alone(dataset.storage)
    dataset.drop("sources")  # of a run that was cut off while it listed
    run = Run.start(dataset.storage)
    passed = PassedOver()
    try:
        sources = corpus.list(passed, (dataset.storage.address, *leave_out))
        shards, rows = write_listing(dataset, run, sources, LISTING)
    finally:
        run.end()
    if not rows:
        raise MillError(_no_pictures(corpus, (dataset.storage.address, *leave_out)))
    segment = Segment(0, shards, rows, corpus.kind, passed.said(), corpus.listed_with() or None)
    dataset.list_from(corpus.address, segment)


def _check_corpus(dataset: Dataset, corpus: Corpus) -> None:
    """Another corpus's pictures would be refused as missing or changed, or not be looked at without a word.

    Raises:
        MillError: none of the first pictures still to do (or done, where all are) is in the corpus as it was listed.
    """
    if not dataset.config.segments:
        return
    for segment in dataset.config.segments:
        check_kind(segment.corpus, dataset.storage.address)
        changed = differences(segment.listed_with or {}, corpus.listed_with())
        if changed:
            raise MillError(
                f"{dataset.storage.address} was listed in another way: {'; '.join(changed)}\nask for the same again, "
                "or list anew (and then redo all that is made from the images): --overwrite images"
            )
    todo = sorted(set(range(dataset.shards)) - dataset.committed("images"))
    with dataset.parquet("sources", todo[0] if todo else 0) as parquet:
        rows: Iterator[dict[str, Any]] = read_rows(parquet)
        sample = [Source(**row) for row, _ in zip(rows, range(SAMPLED_SOURCES), strict=False) if not row["fault"]]
    if sample and not any(corpus.is_as_listed(source) for source in sample):
        known = f" ({dataset.corpora[0]})" if dataset.corpora else ""
        size = "" if sample[0].size is None else f" of {sample[0].size} bytes"
        raise MillError(
            f"{corpus.address} is not the {corpus.kind} that {dataset.storage.address} was listed from{known}: it has "
            f"no {sample[0].source}{size}; choose another dataset for it, or list anew (and then redo all that is made "
            "from the images): --overwrite images"
        )
