"""Captions as they are in a folder now, into the table ``captions``, which training takes before those of ``images``.

So that captions that were edited, or came later, cost no picture and no map. They are found as when a folder is listed:
in files beside the pictures, else in metadata files.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.tables import condition_schema

from ..corpora.captions import caption_beside
from ..corpora.folder import FolderCorpus
from ..corpora.metadata import Metadata
from ..corpora.passed_over import PassedOver
from ..corpora.walk import Walk
from ..engine.faults import JobFault, failure_of
from ..engine.rows import RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from ..engine.worker import this_worker
from .aligned import aligned_task

VERSION = 1
CAPTION = CONDITIONS["caption"]
SAMPLED = 200  # rows, of which one at least must be found
MAX_ERROR = 300


class CaptionFiles:
    """Where captions of a folder's pictures are, as a walk finds them; for threads. It keeps a line a folder."""

    def __init__(self, corpus: FolderCorpus):
        self.corpus = corpus
        passed = PassedOver()
        self._walk = Walk(passed, Metadata(passed))
        self._texts: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def of(self, source: str) -> tuple[str | None, str | None]:
        """(endings of text files in a picture's folder, the caption that metadata files say); see :class:`Source`.

        Raises:
            Refused: the source is not below the folder.
        """
        self.corpus.path(source)
        with self._lock:
            texts = self._look_at(source.rpartition("/")[0])
            assert self._walk.metadata is not None
            return texts, self._walk.metadata.look_up(source)[1]

    def _look_at(self, folder: str) -> str | None:
        if folder not in self._texts:
            if folder:
                self._look_at(folder.rpartition("/")[0])  # metadata names pictures below its folder too
            path = os.path.join(self.corpus.address, folder)
            prefix = f"{folder}/" if folder else ""
            self._texts[folder] = self._walk.open(path, prefix).texts if os.path.isdir(path) else None
        return self._texts[folder]


def caption_files(corpus: FolderCorpus) -> CaptionFiles:
    """What is known of a folder, once for each run and process."""
    return this_worker().once(("caption files", corpus), lambda: CaptionFiles(corpus))


@dataclass(frozen=True)
class RecaptionStep(RowStep):
    """One row of ``images`` and the files beside its source → one row of ``captions``."""

    corpus: FolderCorpus

    def cost(self, row: Mapping[str, Any]) -> int:
        """A caption at its largest."""
        return 1 << 17

    def do(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The caption, or why there is none."""
        try:
            return {CAPTION.table: {"caption": caption_now(caption_files(self.corpus), row["source"])}}
        except Exception as error:
            return {CAPTION.table: failure_of(error)}


def caption_now(files: CaptionFiles, source: str) -> str:
    """The caption of a picture.

    Raises:
        Refused: there is none, or what is there cannot be read.
        JobFault: the folder cannot be read any more.
    """
    try:
        texts, said = files.of(source)
        caption = caption_beside(files.corpus.path(source), texts) or said
    except OSError as error:
        fault = files.corpus.explain(error)
        if isinstance(fault, JobFault):
            raise fault from error
        raise Refused("unreadable", error.strerror or type(error).__name__) from error
    except ValueError as error:
        raise Refused("bad_caption", " ".join(str(error).split())[:MAX_ERROR]) from error
    if caption is None:
        raise Refused("missing", "no caption in a file beside it or in metadata")
    return caption


@dataclass(frozen=True)
class Recaption(Stage):
    """The stage. ``folder`` is that of the pictures, or one with text files at the same paths."""

    folder: str

    name = "captions"

    @property
    def corpus(self) -> FolderCorpus:
        """The folder."""
        return FolderCorpus(self.folder)

    def outputs(self) -> dict[str, Output]:
        """Table → what is made."""
        annotator = {"condition": CAPTION.name, "variant": "files", "version": VERSION}
        provenance = {"table": CAPTION.table, "kind": CAPTION.kind, "annotator": annotator}
        return {CAPTION.table: Output(condition_schema(CAPTION, {}), provenance)}

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """The shard's captions."""
        step = RecaptionStep(self.corpus)
        yield aligned_task(dataset, run, shard, missing, step, ("key", "source"))

    def check(self, dataset: Dataset) -> None:
        """Another folder would make a table of nulls.

        Raises:
            MillError: neither a caption nor a picture of the first rows is in the folder.
        """
        if not os.path.isdir(self.folder):
            raise MillError(f"--captions-from {self.folder}: no such folder")
        files = CaptionFiles(self.corpus)
        sample = list(islice(_sources(dataset, range(dataset.shards)), SAMPLED))
        if sample and not any(_is_there(files, source) for source in sample):
            raise MillError(
                f"--captions-from {self.folder}: it has neither a caption nor a picture at the place of {sample[0]} or "
                f"of the {len(sample) - 1} rows after it"
            )

    def check_unchanged(self, dataset: Dataset, overwrite: Sequence[str]) -> None:
        """Compare what is there with what the table was made from.

        Raises:
            MillError: captions were edited, or came, or went since.
        """
        self.check(dataset)
        if CAPTION.table in overwrite:
            return
        files = CaptionFiles(self.corpus)
        changed = 0
        for shard in dataset.unfinished(CAPTION.table):
            with dataset.parquet(CAPTION.table, shard) as parquet:
                before = [row["caption"] for row in read_rows(parquet, ["caption"])]
            now = (_found(files, source) for source in _sources(dataset, [shard]))
            changed += sum(old != new for old, new in zip(before, now, strict=True))
        if changed:
            raise MillError(
                f"{changed:,} captions in {self.folder} are not those that the table was made from: "
                f"--overwrite {CAPTION.table} takes them in"
            )


def _sources(dataset: Dataset, shards: Sequence[int]) -> Iterator[str]:
    for shard in shards:
        with dataset.parquet("images", shard) as parquet:
            for row in read_rows(parquet, ["source"]):
                yield row["source"]


def _is_there(files: CaptionFiles, source: str) -> bool:
    """Whether a folder has a picture, or a caption of it."""
    try:
        return files.corpus.path(source).exists() or _found(files, source) is not None
    except Refused:  # names of other kinds of corpora may lead anywhere
        return False


def _found(files: CaptionFiles, source: str) -> str | None:
    try:
        return caption_now(files, source)
    except Refused:
        return None
