"""Ingest: listed sources of a corpus to the ``images`` and ``rejected`` tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from typing import Any

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Refused
from controlmill.schemas.fingerprint import package_versions, row_key, sha256_bytes
from controlmill.schemas.images.formats import Fit, Limits
from controlmill.schemas.images.pixels import load_picture
from controlmill.schemas.provenance import IngestRecord, LimitsRecord
from controlmill.schemas.tables import IMAGES

from ..corpora.columns import Columns, kept_values
from ..corpora.corpus import Corpus, Record, Source
from ..corpora.download_options import DownloadOptions
from ..engine.faults import JobFault
from ..engine.rows import RowStep
from .listed import ListedStage

TOO_MANY_GONE = 8  # pictures: a shard of at least so many, all gone, is a fault of the disk or of the listing
UNKNOWN_SIZE = 1024 * 1024  # bytes that a picture is taken to have where its corpus does not say
VERSION = 2  # goes up whenever the same file would give other pixels


@dataclass(frozen=True)
class IngestConfig:
    """What decides the images; kept in ``dataset.json`` and never changed afterwards.

    Of ``columns`` that are those that are kept: where picture and caption stand is the corpus's own, and so is how it
    ``downloads``.
    """

    resolution: int = 512
    fit: Fit = "crop"
    limits: Limits = Limits()
    white: int | None = None  # in 16-bit greys that do not say it
    columns: Columns = Columns()
    downloads: DownloadOptions = DownloadOptions()

    @classmethod
    def of(cls, dataset: Dataset, segment: int | None = None) -> IngestConfig:
        """What a dataset was begun with; or one of its segments, by its number, was made with."""
        made = dataset.config.ingest if segment is None else dataset.config.ingest_of(segment)
        kept = Columns(kept=tuple((made.columns or {}).items()))
        return cls(made.resolution, made.fit, Limits(**vars(made.limits)), made.white, kept)

    def typed(self, corpus: Corpus) -> IngestConfig:
        """With the types that the kept columns have in a corpus.

        Raises:
            MillError: it has no such column.
        """
        return replace(self, columns=self.columns.typed(corpus.kept_types()))

    def record(self) -> IngestRecord:
        """As stored in ``dataset.json``."""
        limits, kept = LimitsRecord(**vars(self.limits)), dict(self.columns.kept) or None
        return IngestRecord(VERSION, self.resolution, self.fit, limits, self.white, kept)

    def provenance(self) -> dict[str, Any]:
        """As stored in files."""
        settings = {"version": VERSION, **asdict(self)}
        del settings["columns"], settings["downloads"]
        return {**settings, "columns": dict(self.columns.kept)} if self.columns.kept else settings


@dataclass(frozen=True)
class IngestStep(RowStep):
    """One listed source → one row of ``images``; ``lossless``: a file that is not kept as it is becomes a PNG."""

    corpus: Corpus
    config: IngestConfig
    lossless: bool = False

    @property
    def fetches(self) -> int:
        """As many as the corpus begins to read at a time."""
        return self.corpus.most_at_once

    def fetch(self, row: Source) -> Future[Record]:
        """See :meth:`Corpus.begin`; a source that cannot be taken fails at once."""
        if row.fault:
            failed: Future[Record] = Future()
            failed.set_exception(_fault(row))
            return failed
        return self.corpus.begin(row, self.config.limits.max_bytes)

    def cost(self, row: Source) -> int:
        """Compressed pictures unfold about fifteenfold; those that unfold to more wait for memory in ``do``."""
        if self.fetches:
            return UNKNOWN_SIZE  # what it takes is counted as it comes
        size = UNKNOWN_SIZE if row.size is None else row.size
        return min(size * 15, self.config.limits.max_pixels * 3)

    def do(self, row: Source) -> dict[str, Any]:
        """Read, decode, fit, encode.

        Raises:
            Refused: any reason of :func:`pixels.load_picture` or of :meth:`Corpus.read`.
            JobFault: the corpus cannot be read any more.
        """
        if row.fault:
            raise _fault(row)
        return self.use(row, self.corpus.read(row, self.config.limits.max_bytes))

    def use(self, row: Source, fetched: Record) -> dict[str, Any]:
        """Decode, fit, encode."""
        try:
            return self._row(row, fetched)
        finally:
            fetched.release()

    def held(self, result: dict[str, Any]) -> int:
        """The picture's bytes."""
        return len(result["image"]["bytes"])

    def _row(self, row: Source, record: Record) -> dict[str, Any]:
        config = self.config
        picture = load_picture(
            *(record.data, config.limits, config.resolution, config.fit, config.white, self.lossless)
        )
        digest = sha256_bytes(record.data)
        key = row_key(row.source, digest)
        x, y, w, h = picture.crop
        return {
            "key": key,
            "source": row.source,
            "image": {"bytes": picture.data, "path": f"{key}.{picture.ending}"},
            "width": picture.width,
            "height": picture.height,
            "original_width": picture.original_width,
            "original_height": picture.original_height,
            "crop_x": x,
            "crop_y": y,
            "crop_w": w,
            "crop_h": h,
            "sha256": digest,
            "several": picture.several,
            "caption": record.caption,
            "caption_error": record.caption_error,
            **kept_values({**json.loads(row.columns or "{}"), **record.columns}, config.columns),
        }


def _fault(row: Source) -> Refused:
    return Refused(row.reason or "missing", row.fault or "")


@dataclass(frozen=True)
class Ingest(ListedStage):
    """The stage. ``corpus`` is what the listing was made of."""

    corpus: Corpus
    config: IngestConfig

    name = "ingest"

    @property
    def waits(self) -> bool:
        """See :attr:`Stage.waits`."""
        return self.corpus.most_at_once > 0

    @property
    def kept(self) -> Mapping[str, str]:
        """Of the settings."""
        return dict(self.config.columns.kept)

    def provenance(self) -> dict[str, Any]:
        """What all images files of a dataset share."""
        return {
            "table": IMAGES,
            "kind": IMAGES,
            "ingest": self.config.provenance(),
            "packages": package_versions("pillow", "cykooz-resizer", "numpy"),
        }

    def step(self) -> IngestStep:
        """Reads and decodes a source."""
        return IngestStep(self.corpus, self.config)

    def check_rejects(self, sources: Sequence[Source], rejects: Sequence[Mapping[str, Any]]) -> None:
        """Where all pictures are gone, the corpus is another one, or its disk is gone: see :class:`ListedStage`."""
        seen = sum(source.size is not None and not source.fault for source in sources)
        gone = sum(reject["reason"] in ("missing", "changed") for reject in rejects)
        if seen >= TOO_MANY_GONE and gone == len(sources):
            raise JobFault(
                f"{self.corpus.address}: none of {len(sources)} pictures from {sources[0].source} on is as it was "
                "listed: when they are back, run the same command again; or list anew (and then redo all that "
                "is made from the images) with --overwrite images"
            )
