"""Scores: the judge's maps of results against the true maps of the rows that the pictures were made for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from controlmill.evaluation.measures.catalogue import MEASURES
from controlmill.evaluation.measures.measure import Measure
from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import package_versions
from controlmill.schemas.images.codecs import decode_map
from controlmill.schemas.kinds import Kind
from controlmill.schemas.results import OF_ROW, OF_SHARD
from controlmill.schemas.tables import SCORES, scores_schema

from ..engine.rows import RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from .aligned import aligned_task
from .judge import beside

VERSION = 1
ROW_COLUMNS = ("key", "width", "height", OF_SHARD, OF_ROW)


@dataclass(frozen=True)
class ScoreStep(RowStep):
    """One picture of results, with the judge's row and the true one → its scores."""

    measures: tuple[str, ...]
    kind: Kind

    def cost(self, row: Mapping[str, Any]) -> int:
        """Two maps, and what measures make of them in float64."""
        return int(row["width"] * row["height"] * 64)

    def do(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row of scores.

        Raises:
            Refused: the judge's map, or the true one, is not there.
        """
        found, true = (self._side(row[side], side, row) for side in ("found", "true"))
        scores: dict[str, Any] = {}
        for name in self.measures:
            measure = MEASURES[name]
            if min(row["width"], row["height"]) < measure.least_side:
                continue
            sides = (found, true) if measure.columns else (found["map"], true["map"])
            part = measure.part(*sides)
            scores[name] = measure.value([part])
            if measure.is_pooled:
                scores[parts_column(name)] = list(part)
        return {SCORES: {name: number(value) for name, value in scores.items()}}

    def _side(self, stored: Mapping[str, Any], side: str, row: Mapping[str, Any]) -> dict[str, Any]:
        reason = stored.get("reason")
        if reason or stored["map"] is None:
            who = "the judge has no map" if side == "found" else "the row has no true map"
            raise Refused(reason or "missing", f"{who}: {stored.get('error') or 'none is stored'}")
        array = decode_map(self.kind, stored["map"]["bytes"] or b"", (row["height"], row["width"]))
        return {**stored, "map": array}


def number(value: Any) -> Any:
    """A score as it is stored: null where it is not a number, so that readers need not know of NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def parts_column(measure: str) -> str:
    """The column with what a pooled measure takes of a picture."""
    return f"{measure}_parts"


def columns_of(measures: Sequence[Measure]) -> list[str]:
    """Columns of a condition's table that measures need, beside the map and why there is none."""
    return list(dict.fromkeys(["map", "reason", "error", *(name for one in measures for name in one.columns)]))


@dataclass(frozen=True)
class Score(Stage):
    """The stage.

    Args:
        measures: by name.
        condition: of the truth.
        judge: the table of results that has the judge's maps, and ``judge_sha256`` its fingerprint.
        source: address of the dataset of the truth.
        truth: its table, and ``truth_sha256`` its fingerprint.
    """

    measures: tuple[str, ...]
    condition: Condition
    judge: str
    judge_sha256: str
    source: str
    truth: str
    truth_sha256: str

    name = "score"

    def outputs(self) -> dict[str, Output]:
        """Table ``scores``."""
        pooled = [parts_column(name) for name in self.measures if MEASURES[name].is_pooled]
        schema = scores_schema(self.measures)
        for name in pooled:
            schema = schema.append(pa.field(name, pa.list_(pa.float64())))
        scored = {
            "version": VERSION,
            "measures": list(self.measures),
            "truth": self.truth,
            "truth_sha256": self.truth_sha256,
            "judge": self.judge,
            "judge_sha256": self.judge_sha256,
            "packages": package_versions("numpy", "opencv", "scipy"),
        }
        return {SCORES: Output(schema, {"table": SCORES, "kind": SCORES, "scored": scored})}

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """The shard's scores."""
        columns = columns_of([MEASURES[name] for name in self.measures])
        source = Dataset.open(self.source)
        truth_names = source.footer(self.truth, 0).schema.names

        def completed(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            with dataset.parquet(self.judge, shard) as parquet:
                judged = read_rows(parquet, ["key", *(name for name in columns if name in parquet.schema_arrow.names)])
                known = [name for name in columns if name in truth_names]
                for (row, true), found in zip(beside(rows, source, {self.truth: known}), judged, strict=True):
                    yield {**row, "found": found, "true": true[self.truth]}

        step = ScoreStep(self.measures, self.condition.kind)
        yield aligned_task(dataset, run, shard, missing, step, ROW_COLUMNS, completed=completed)
