"""``results.json``: measures over rows with their intervals, from the table of scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from controlmill.evaluation.measures.catalogue import MEASURES
from controlmill.evaluation.measures.intervals import bootstrap, bootstrap_gain
from controlmill.evaluation.measures.measure import Measure, Part
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.results import (
    CEILING,
    OF_ROW,
    OF_SHARD,
    PROMPT_KIND,
    SAMPLE,
    MeasureRecord,
    PublishedRecord,
    ValueRecord,
)
from controlmill.schemas.tables import IMAGES, SCORES
from controlmill.schemas.views.rows import aligned_groups

from ..stages.score import chance_column, parts_column

Rows = dict[tuple[int, int], list[Part]]  # the parts of each row's pictures


@dataclass(frozen=True)
class Published:
    """What measures are printed beside, by their names, and what is to be known of each.

    ``prompts`` are the kinds of prompt that the values were published of.
    """

    values: Mapping[str, Sequence[PublishedRecord]]
    notes: Mapping[str, str]
    prompts: Sequence[str] = ()


def summarised(
    results: Dataset, measures: Sequence[str], prompts: Sequence[str], published: Published
) -> tuple[MeasureRecord, ...]:
    """Each measure's value and 95 % interval for each kind of prompt, beside what is chance and the ceiling."""
    found, sizes = [], _sizes(results)
    for name in measures:
        measure = MEASURES[name]
        parts = parts_by_kind(results, measure, measure.name)
        chance = parts_by_kind(results, measure, chance_column(measure.name))
        ceiling = known(measure.of_set(parts.get(CEILING, {})))
        values = tuple(_value(measure, kind, parts.get(kind, {}), chance.get(kind, {}), ceiling) for kind in prompts)
        shown = tuple(published.values.get(name, ()))
        note = "; ".join(filter(None, (*measure.notes(sizes), published.notes.get(name, ""))))
        found.append(MeasureRecord(name, measure.lower_is_better, values, name, shown, note))
    return tuple(found)


def noted(measures: Iterable[MeasureRecord], prompts: Sequence[str], rows: int) -> Iterator[MeasureRecord]:
    """Measures, with a note at each value that is not of all rows, or not of the prompts that were published.

    Args:
        measures: as they were summed up.
        prompts: the kinds that the published values are of.
        rows: that were evaluated.
    """
    for measure in measures:
        comparable = any(not published.note for published in measure.published)
        values = []
        for value in measure.values:
            notes = [value.note]
            if value.value is not None and value.rows < rows:
                notes.append(f"{rows - value.rows:,} of {rows:,} rows have no value and count for nothing")
            if comparable and value.prompt_kind not in prompts:
                notes.append(f"published values are of prompts {', '.join(prompts)}: not comparable")
            values.append(replace(value, note="; ".join(filter(None, notes))))
        yield replace(measure, values=tuple(values))


def _value(measure: Measure, kind: str, rows: Rows, chance: Rows, ceiling: float | None) -> ValueRecord:
    found, gain = bootstrap(measure, rows), bootstrap_gain(measure, rows, chance)
    return ValueRecord(
        *(kind, found.rows, found.value, found.low, found.high),
        chance=known(measure.of_set(chance)),
        ceiling=ceiling,
        gain_low=gain.low,
        gain_high=gain.high,
    )


def known(value: float) -> float | None:
    """None in the place of NaN."""
    return None if np.isnan(value) else value


def parts_by_kind(results: Dataset, measure: Measure, column: str) -> dict[str, Rows]:
    """Prompt kind → row → parts of its pictures in their order, by the column of their scores; none without a score."""
    column = parts_column(column) if measure.is_pooled else column
    found: dict[str, dict[tuple[int, int], dict[int, Part]]] = defaultdict(lambda: defaultdict(dict))
    columns: dict[str, list[str]] = {IMAGES: [OF_SHARD, OF_ROW, SAMPLE, PROMPT_KIND], SCORES: [column]}
    for shard in range(results.shards):
        for _, read in aligned_groups(results, shard, columns):
            of, scores = read[IMAGES].to_pylist(), read[SCORES].column(column).to_pylist()
            for row, part in zip(of, scores, strict=True):
                if part is not None:
                    value: Any = np.asarray(part, float) if measure.is_pooled else (part,)
                    found[row[PROMPT_KIND]][row[OF_SHARD], row[OF_ROW]][row[SAMPLE]] = value
    return {
        kind: {place: [pictures[sample] for sample in sorted(pictures)] for place, pictures in rows.items()}
        for kind, rows in found.items()
    }


def _sizes(results: Dataset) -> set[tuple[int, int]]:
    """Heights and widths of the pictures."""
    found: set[tuple[int, int]] = set()
    for shard in range(results.shards):
        for _, read in aligned_groups(results, shard, {IMAGES: ["height", "width"]}):
            found |= set(zip(*(read[IMAGES].column(side).to_pylist() for side in ("height", "width")), strict=True))
    return found
