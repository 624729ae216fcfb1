"""Scores: the judge's maps of results against the true maps of the rows that the pictures were made for.

The same pictures are compared with the maps of other rows too: what they score there is chance.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from controlmill.schemas.views.lookup import Place

from ..engine.rows import RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from .aligned import aligned_task
from .beside import beside, beside_others

VERSION = 3
ROW_COLUMNS = ("key", "width", "height", OF_SHARD, OF_ROW)


@dataclass(frozen=True)
class ScoreStep(RowStep):
    """One picture of results, with the judge's row and the true one, and those of chance → its scores."""

    measures: tuple[str, ...]
    kind: Kind

    def cost(self, row: Mapping[str, Any]) -> int:
        """Four maps, and what measures make of two of them in float64."""
        return int(row["width"] * row["height"] * 72)

    def do(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row of scores.

        Raises:
            Refused: the judge's map, or the true one, is not there.
        """
        scores = self._scores(row, row["found"], row["true"], {name: name for name in self.measures})
        if row["other"] is not None:
            with contextlib.suppress(Refused, ValueError):  # a fault of another row's map: there is no chance here
                names = {name: chance_column(name) for name in self.measures}
                scores |= self._scores(row, row["found_by_chance"], row["other"], names)
        return {SCORES: {name: number(value) for name, value in scores.items()}}

    def _scores(self, row: Mapping[str, Any], found: Any, true: Any, columns: Mapping[str, str]) -> dict[str, Any]:
        """Column → score, and what pooled measures count."""
        found, true = self._side(found, "found", row), self._side(true, "true", row)
        scores: dict[str, Any] = {}
        for name, column in columns.items():
            measure = MEASURES[name]
            if min(row["width"], row["height"]) < measure.least_side:
                continue
            sides = (found, true) if measure.columns else (found["map"], true["map"])
            part = measure.part(*sides)
            scores[column] = measure.value([part])
            if measure.is_pooled:
                scores[parts_column(column)] = list(part)
        return scores

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


def parts_column(column: str) -> str:
    """The column with what a pooled measure takes of a picture, beside the column of its score."""
    return f"{column}_parts"


def chance_column(measure: str) -> str:
    """The column with the score of a picture against another row's map."""
    return f"{measure}_by_chance"


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
        by_chance: the judge's table that is compared with other rows' maps, and ``by_chance_sha256`` its fingerprint.
        others: those rows, see :func:`listing.other_places`.
    """

    measures: tuple[str, ...]
    condition: Condition
    judge: str
    judge_sha256: str
    source: str
    truth: str
    truth_sha256: str
    by_chance: str
    by_chance_sha256: str
    others: Mapping[Place, Place] = field(default_factory=dict)

    name = "score"

    def outputs(self) -> dict[str, Output]:
        """Table ``scores``."""
        pooled = [name for name in self.measures if MEASURES[name].is_pooled]
        schema = scores_schema([*self.measures, *map(chance_column, self.measures)])
        for name in itertools.chain(pooled, map(chance_column, pooled)):
            schema = schema.append(pa.field(parts_column(name), pa.list_(pa.float64())))
        by_chance = {"by_chance": self.by_chance, "by_chance_sha256": self.by_chance_sha256}
        if self.by_chance == self.judge:
            by_chance = {}
        scored = {
            "version": VERSION,
            "measures": list(self.measures),
            "truth": self.truth,
            "truth_sha256": self.truth_sha256,
            "judge": self.judge,
            "judge_sha256": self.judge_sha256,
            **by_chance,
            "packages": package_versions("numpy", "opencv", "scipy"),
        }
        return {SCORES: Output(schema, {"table": SCORES, "kind": SCORES, "scored": scored})}

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """The shard's scores."""
        columns = columns_of([MEASURES[name] for name in self.measures])
        source = Dataset.open(self.source)
        truth_names = source.footer(self.truth, 0).schema.names

        def judged(table: str) -> Iterator[dict[str, Any]]:
            with dataset.parquet(table, shard) as parquet:
                yield from read_rows(
                    parquet, ["key", *(name for name in columns if name in parquet.schema_arrow.names)]
                )

        def completed(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            true = {self.truth: [name for name in columns if name in truth_names]}
            rows, again = itertools.tee(rows)
            own, others = beside(rows, source, true), beside_others(again, source, true, self.others)
            found = judged(self.judge)
            chance = itertools.repeat(None) if self.by_chance == self.judge else judged(self.by_chance)
            for (row, its), (_, other), map_of, by_chance in zip(own, others, found, chance, strict=False):
                yield {
                    **row,
                    "found": map_of,
                    "true": its[self.truth],
                    "found_by_chance": by_chance or map_of,
                    "other": other and other[self.truth],
                }

        step = ScoreStep(self.measures, self.condition.kind)
        yield aligned_task(dataset, run, shard, missing, step, ROW_COLUMNS, completed=completed)
