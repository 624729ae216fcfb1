"""Stages that make pictures of what is listed: the tables ``images`` and ``rejected`` from ``sources``.

The images file is a shard's one commit. What was refused is told in its footer too, and the rejected file is made
from that: so the two always agree, whoever wrote which, and listed = kept + rejected.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.shardfile import GROUP_BYTES, GROUP_PIXELS, GROUP_ROWS, LISTED_GROUP_ROWS, read_rows
from controlmill.schemas.tables import IMAGES, REJECTED, SOURCES, TABLES, images_schema

from ..corpora.corpus import Source
from ..corpora.listing import batched
from ..engine.faults import Failure
from ..engine.rows import RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage


class ListedStage(Stage):
    """One picture, or a refusal, for each listed source, in the order of the listing."""

    @property
    @abstractmethod
    def kept(self) -> Mapping[str, str]:
        """Columns of the images beside those that all have, with their Arrow types."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What all images files of a segment share."""

    @abstractmethod
    def step(self) -> RowStep:
        """Makes a row of ``images`` of a row of :meth:`rows`."""

    def rows(self, sources: Sequence[Source]) -> Iterable[Any]:
        """What the step is given for each source of a shard, one after another."""
        return sources

    def check_rejects(self, sources: Sequence[Source], rejects: Sequence[Mapping[str, Any]]) -> None:
        """Look at what was refused of a shard: each with its ``source``, ``reason`` and ``error``.

        Raises:
            JobFault: it was no fault of the pictures.
        """

    def outputs(self) -> dict[str, Output]:
        """Images and what was rejected."""
        return {
            IMAGES: Output(images_schema(self.kept), self.provenance()),
            REJECTED: Output(TABLES[REJECTED].schema, {"table": REJECTED, "kind": REJECTED}),
        }

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """Images first; then the rejected file, from the footer of whichever images file won."""
        step = self.step()

        def reject() -> None:
            if REJECTED in missing:
                write_rejected(dataset, run, shard, missing[REJECTED])

        def write(outcomes: Iterator[Any]) -> None:
            self._write_images(dataset, run, shard, missing[IMAGES], sources, outcomes)
            reject()

        if IMAGES in missing:
            with dataset.parquet(SOURCES, shard) as parquet:
                sources = [Source(**row) for row in read_rows(parquet)]
            yield GroupTask((IMAGES,), step, self.rows(sources), write)
        else:
            yield GroupTask((REJECTED,), step, (), lambda _: reject())

    def _write_images(
        self, dataset: Dataset, run: Run, shard: int, output: Output, sources: list[Source], outcomes: Iterator[Any]
    ) -> None:
        rejects: list[dict[str, Any]] = []
        captions = {"given": 0, "unread": 0}
        group: list[Mapping[str, Any]] = []
        pixels = held = several = 0
        with dataset.committing(run.id, IMAGES, shard, output.schema, output.provenance) as writer:
            for source, outcome in zip(sources, outcomes, strict=True):
                if isinstance(outcome, Failure):
                    rejects.append({"source": source.source, "reason": outcome.reason, "error": outcome.error})
                    continue
                several += outcome["several"]
                captions["given"] += outcome["caption"] is not None
                captions["unread"] += outcome["caption_error"] is not None
                size = outcome["width"] * outcome["height"]
                length = len(outcome["image"]["bytes"])
                full = len(group) == GROUP_ROWS or pixels + size > GROUP_PIXELS or held + length > GROUP_BYTES
                if group and full:
                    writer.write_group(group)
                    group, pixels, held = [], 0, 0
                group.append(outcome)
                pixels, held = pixels + size, held + length
            writer.write_group(group)
            self.check_rejects(sources, rejects)
            reasons = Counter(reject["reason"] for reject in rejects)
            writer.close({"rejects": rejects, "reasons": dict(reasons), "captions": captions, "several": several})


def write_rejected(dataset: Dataset, run: Run, shard: int, output: Output) -> None:
    """Commit the rejected file of a shard whose images are committed."""
    rejects = dataset.footer(IMAGES, shard).summary.rejects
    reasons = Counter(reject.reason for reject in rejects)
    with dataset.committing(run.id, REJECTED, shard, output.schema, output.provenance) as writer:
        for group in batched(rejects, LISTED_GROUP_ROWS):
            writer.write_group([{**vars(reject), "detail": None} for reject in group])
        writer.close({"reasons": dict(reasons)})
