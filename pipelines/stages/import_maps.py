"""Import: labels that are there already, a user's own maps or those of a dataset, into condition tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.tables import condition_schema

from ..engine.faults import JobFault, failure_of
from ..engine.rows import RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from ..engine.worker import this_worker
from ..labels.matching import match_lines
from ..labels.source import Labels, LabelSource, digest_of
from .aligned import aligned_task

ROW_COLUMNS = (
    *("key", "source", "width", "height", "original_width", "original_height"),
    *("crop_x", "crop_y", "crop_w", "crop_h"),
)
READERS = 8
NAMED = 3  # changed files in a message


@dataclass(frozen=True)
class ImportStep(RowStep):
    """One row of ``images`` and the labels of its picture → one row for each imported table."""

    sources: tuple[LabelSource, ...]
    limits: Limits

    def cost(self, row: Mapping[str, Any]) -> int:
        """A map of the original size, decoded and as what is made of it; a row's maps follow one another."""
        return int(row["original_width"] * row["original_height"] * 16)

    def do(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Table → row. One that is refused says of which label, so that it is noticed when that is mended."""
        return {source.condition.table: self._row(source, row) for source in self.sources}

    def _row(self, source: LabelSource, row: Mapping[str, Any]) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        try:
            parts = self._labels(source).read(row["source"], self.limits.max_bytes)
            stored["file_sha256"] = digest_of(parts)
            return {**stored, **source.row_of(parts, row, self.limits)}
        except Exception as error:
            failure = failure_of(error)
            return {**stored, "reason": failure.reason, "error": failure.error}

    def _labels(self, source: LabelSource) -> Labels:
        def load() -> Labels:
            try:
                return source.open()
            except MillError as error:  # no other row has a label either
                raise JobFault(str(error)) from error

        return this_worker().once(("labels", source), load)


@dataclass(frozen=True)
class Import(Stage):
    """The stage. ``notes`` are told before it starts, after what the sources say."""

    sources: tuple[LabelSource, ...]
    limits: Limits
    notes: tuple[str, ...] = ()

    name = "import"

    def input_folders(self) -> tuple[str, ...]:
        """See :meth:`LabelSource.input_folders`."""
        return tuple(dict.fromkeys(folder for source in self.sources for folder in source.input_folders()))

    def messages(self) -> Iterator[str]:
        """What is imported, how it is read, and what is left out."""
        for source in self.sources:
            yield from source.messages()
        yield from self.notes

    def matches(self, dataset: Dataset) -> Iterator[str]:
        """Pictures and labels counted against each other."""
        for source in self.sources:
            yield from match_lines(dataset, source)

    def outputs(self) -> dict[str, Output]:
        """Table → what is made."""
        outputs = {}
        for source in self.sources:
            condition = source.condition
            provenance = {"table": condition.table, "kind": condition.kind, "annotator": source.made_by()}
            outputs[condition.table] = Output(condition_schema(condition, source.columns), provenance)
        return outputs

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """All missing tables together."""
        sources = tuple(source for source in self.sources if source.condition.table in missing)
        step = ImportStep(sources, self.limits)
        yield aligned_task(dataset, run, shard, missing, step, ROW_COLUMNS)

    def check_unchanged(self, dataset: Dataset, overwrite: Sequence[str]) -> None:
        """Compare the labels with the digests of those that the tables were made from.

        Raises:
            MillError: some were edited, brought or taken away since, with the way to take them in.
        """
        for source in self.sources:
            table = source.condition.table
            shards = dataset.unfinished(table)
            if table in overwrite or not shards:
                continue
            labels = source.open()
            changed = [name for shard in shards for name in self._changed(dataset, shard, table, labels)]
            if changed:
                names = ", ".join(changed[:NAMED]) + (", …" if len(changed) > NAMED else "")
                raise MillError(
                    f"{len(changed):,} maps of {table} in {source.place} are not those that "
                    f"the table was made from (of {names}): --overwrite {table} takes them in"
                )

    def _changed(self, dataset: Dataset, shard: int, table: str, labels: Labels) -> list[str]:
        with dataset.parquet("images", shard) as images, dataset.parquet(table, shard) as maps:
            pictures = [row["source"] for row in read_rows(images, ["source"])]
            digests = [row["file_sha256"] for row in read_rows(maps, ["file_sha256"])]
        with ThreadPoolExecutor(READERS) as pool:
            now = pool.map(lambda picture: self._digest(labels, picture), pictures)
            return [picture for picture, old, new in zip(pictures, digests, now, strict=True) if old != new]

    def _digest(self, labels: Labels, picture: str) -> str | None:
        try:
            return digest_of(labels.read(picture, self.limits.max_bytes))
        except (Refused, OSError):  # then the row has none either
            return None
