"""Ingest a corpus: list it, and make its ``images`` and ``rejected`` tables.

Everything that can be found wrong is found before work starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.names import LOCAL
from controlmill.schemas.views.accounting import passed_over_lines

from .corpora.columns import Columns
from .corpora.corpus import Corpus, Source
from .corpora.download_options import DownloadOptions
from .corpora.hub import SCHEME, pinned
from .corpora.kinds import absolute, check_columns, check_kind, open_corpus
from .corpora.listing import write_listing
from .corpora.passed_over import PassedOver
from .engine.console import finish_tables, run_stage
from .engine.mend import check_committed, check_listing, look_at, mended, set_aside, start_or_resume_redo
from .engine.owners import require_alone
from .engine.process import Resources
from .engine.run_folder import Run
from .engine.stage import Chain, Plan
from .options import by_flags
from .stages.ingest import Ingest, IngestConfig
from .stages.listed import ListedStage

MADE = ("images", "rejected")
SAMPLED_SOURCES = 50


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
    check_columns(corpus)
    require_pictures(corpus, (address, *leave_out))
    if not open_storage(address).exists("dataset.json"):
        return
    if "images" in overwrite:
        _check_one_segment(address)
        return
    dataset = mended(address)
    config = config.typed(corpus)
    size = dataset.config.segments[0].shard_size if dataset.config.segments else shard_size
    before = {**plain(dataset.config.ingest), "shard_size": size}
    changed = differences(by_flags(before), by_flags({**config.provenance(), "shard_size": shard_size or size}))
    if changed:
        raise MillError(
            f"{address} was made with other settings; what differs:\n  "
            + "\n  ".join(changed)
            + "\nask for the same again, or redo the images (and then all that is made from them): --overwrite images"
        )
    if dataset.config.segments:
        check_listing(dataset)
        _check_corpus(dataset, 0, corpus)


def at_commit(photos: str, address: str, overwrite: Sequence[str]) -> str:
    """The corpus's address; on the Hub at the commit that the dataset was listed from, where it goes on."""
    if not photos.startswith(SCHEME) or "images" in overwrite or not open_storage(address).exists("dataset.json"):
        return photos
    segments = Dataset.open(address).config.segments
    return pinned(photos, (segments[0].listed_with or {}).get("commit") if segments else None)


def _check_one_segment(address: str) -> None:
    """Raise MillError where a dataset was extended: the images of other corpora would be lost."""
    segments = Dataset.open(address).config.segments
    if len(segments) > 1:
        raise MillError(
            f"{address} has {len(segments)} segments, and --overwrite images would list this corpus alone: build a new "
            "dataset from the first corpus, and extend it with the others"
        )


def require_pictures(corpus: Corpus, leave_out: Sequence[str]) -> None:
    """Raise MillError where a corpus has no picture; what is listed first is enough to know."""
    if next(corpus.list(leave_out=leave_out), None) is None:
        raise MillError(no_pictures(corpus, leave_out))


def no_pictures(corpus: Corpus, leave_out: Sequence[str]) -> str:
    """What a user is told where a corpus has none."""
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
    dataset, corpus = list_corpus(photos, address, config, resources, shard_size, overwrite, leave_out)
    make_images(dataset, resources, corpus, config.downloads)
    redo.end(dataset.storage, ["images"])
    return Dataset.open(address)


def list_corpus(
    photos: str,
    address: str,
    config: IngestConfig,
    resources: Resources,
    shard_size: int | None,
    overwrite: Sequence[str],
    leave_out: Sequence[str],
) -> tuple[Dataset, Corpus]:
    """The dataset as images are to be made in it, and its first corpus: listed, where it was not yet.

    Raises:
        MillError: see :func:`check_ingest`.
    """
    check_ingest(photos, address, config, shard_size, overwrite, leave_out)
    corpus = open_corpus(absolute(at_commit(photos, address, overwrite)), config.columns, config.downloads)
    stage = Ingest(corpus, config.typed(corpus))
    if open_storage(address).exists("dataset.json"):
        dataset = mended(address)
        aim = {**stage.provenance(), "shard_size": shard_size, "corpus": stage.corpus.address}
        if "images" in overwrite and start_or_resume_redo(dataset, "images", aim):
            dataset = dataset.redo_images(stage.config.record())
    else:
        dataset = Dataset.create(address, stage.config.record())
    if not dataset.config.segments:
        resources.process.start()
        _list(dataset, stage.corpus, shard_size, leave_out)
    return dataset, corpus


def make_images(
    dataset: Dataset,
    resources: Resources,
    first: Corpus | None = None,
    downloads: DownloadOptions = DownloadOptions(),  # noqa: B008 it is frozen
    then: Plan = (),
) -> None:
    """Make what lacks of ``images`` and ``rejected``, segment by segment, each from its corpus with its settings.

    Args:
        dataset: all of its segments are listed.
        resources: what works.
        first: the corpus of the first segment, where the user gives it.
        downloads: how pictures of URL lists are fetched.
        then: what else is done for each shard in the same job, when its images are there.

    Raises:
        MillError: it is not known where the pictures of a segment are; see also :func:`console.run_stage`.
    """
    listed = dataset.whole_index("sources") or dataset.finish("sources", changed=())
    rows = [entry.rows for entry in listed.shards]
    damaged = {shard for table in MADE for shard in look_at(dataset, table).damaged}
    done = set.intersection(*(dataset.committed(table) for table in MADE)) - damaged
    for number, segment in enumerate(dataset.config.segments):
        given, stages = first if number == 0 else None, then
        if given is not None or not done.issuperset(segment.range):
            stage = Ingest(given or corpus_of(dataset, number, downloads), IngestConfig.of(dataset, number))
            if given is None and segment.retries is None:
                _check_corpus(dataset, number, stage.corpus)
            set_lost_aside(dataset, stage, segment.range)
            stages = (stage, *then)
        if stages:
            run_stage(dataset, Chain(stages), resources, rows, segment.range)
    finish_tables(dataset, dict.fromkeys(MADE, ()))


def corpus_of(
    dataset: Dataset,
    number: int,
    downloads: DownloadOptions = DownloadOptions(),  # noqa: B008 it is frozen
) -> Corpus:
    """The corpus that a segment was listed from.

    Raises:
        MillError: this machine does not know where it is, or this version cannot read it.
    """
    segment, address = dataset.config.segments[number], dataset.corpora[number]
    check_kind(segment.corpus, dataset.storage.address)
    if not address:
        raise MillError(
            f"pictures of segment {number} of {dataset.storage.address} are to be read, and it is not known here where "
            f"its {segment.corpus} is: restore {LOCAL} from a copy"
        )
    chosen = segment.listed_with or {}
    kept = tuple((dataset.config.ingest.columns or {}).items())
    if address.startswith(SCHEME):
        address = pinned(address, chosen.get("commit"))
    return open_corpus(address, Columns(chosen.get("image column"), chosen.get("caption column"), kept), downloads)


def set_lost_aside(dataset: Dataset, stage: ListedStage, shards: range) -> None:
    """Set damaged files aside. The images' file tells what was refused: where it is lost, both are made again."""
    set_aside(dataset, "images", check_committed(dataset, "images", stage.provenance(), shards))
    lost = (dataset.committed("rejected") - dataset.committed("images")).intersection(shards)
    damaged = {shard: fault for shard, fault in look_at(dataset, "rejected").damaged.items() if shard in shards}
    set_aside(dataset, "rejected", {**damaged, **dict.fromkeys(lost, "")})


def _list(dataset: Dataset, corpus: Corpus, shard_size: int | None, leave_out: Sequence[str]) -> None:
    require_alone(dataset.storage)
    dataset.drop("sources")  # of a run that was cut off while it listed
    run = Run.start(dataset.storage)
    passed = PassedOver()
    try:
        sources = corpus.list(passed, (dataset.storage.address, *leave_out))
        segment = write_listing(dataset, run, sources, corpus.kind, shard_size=shard_size)
    finally:
        run.end()
    if not segment.rows:
        raise MillError(no_pictures(corpus, (dataset.storage.address, *leave_out)))
    segment = replace(segment, passed_over=passed.said(), listed_with=corpus.listed_with() or None)
    dataset.append([segment], [corpus.address])


def _check_corpus(dataset: Dataset, number: int, corpus: Corpus) -> None:
    """Another corpus's pictures would be refused as missing or changed, or not be looked at without a word.

    Raises:
        MillError: none of the first pictures still to do (or done, where all are) is in the corpus as it was listed; or
            all of them are faults of the listing, and the corpus is of another kind or at another address.
    """
    segment = dataset.config.segments[number]
    check_kind(segment.corpus, dataset.storage.address)
    changed = differences(segment.listed_with or {}, corpus.listed_with())
    if changed:
        raise MillError(
            f"{dataset.storage.address} was listed in another way: {'; '.join(changed)}\nask for the same again, "
            "or list anew (and then redo all that is made from the images): --overwrite images"
        )
    known = dataset.corpora[number]
    todo = sorted(set(segment.range) - dataset.committed("images"))
    with dataset.parquet("sources", todo[0] if todo else segment.first_shard) as parquet:
        rows: Iterator[dict[str, Any]] = read_rows(parquet)
        listed = islice((Source(**row) for row in rows if not row["fault"]), SAMPLED_SOURCES)
        first = next(listed, None)
        if first is None:  # nothing to look for: what is recorded is all that tells
            same = corpus.kind == segment.corpus and known.rstrip("/") in ("", absolute(corpus.address).rstrip("/"))
        else:
            same = corpus.is_as_listed(first) or any(map(corpus.is_as_listed, listed))
    if not same:
        where = f" ({known})" if known else ""
        size = "" if first is None or first.size is None else f" of {first.size} bytes"
        lacking = f": it has no {first.source}{size}" if first else ""
        raise MillError(
            f"{corpus.address} is not the corpus that {dataset.storage.address} was listed from{where}"
            f"{lacking}; choose another dataset for it, or list anew (and then redo all that is made from the images): "
            "--overwrite images"
        )
