"""By how much results differ from the first one, paired by row: over the rows that both have, and no others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...intervals import Interval, mean_interval
from ...tables import IMAGES, SCORES
from ..lookup import Place
from ..rows import aligned_groups
from .results import PLACE_COLUMNS, Result, Slot

Means = Mapping[tuple[str, str], Mapping[Place, float]]  # (kind of prompt, measure) → row → mean over its pictures


def differences(results: Sequence[Result]) -> list[dict[tuple[str, str], Interval]]:
    """Of each result, by kind of prompt and measure, the mean difference to the first one with its 95 % interval.

    Two intervals that overlap do not tell that two results are alike: on the same rows both are good at the easy ones.
    Of the first result there is none, nor of measures of which a row is no mean of its pictures.
    """
    first, *others = [row_means(result) for result in results]
    return [{}, *({about: _difference(first[about], its[about]) for about in first if about in its} for its in others)]


def row_means(result: Result) -> Means:
    """The mean over a row's pictures of each measure that single pictures have."""
    found: dict[tuple[str, str], dict[Place, list[float]]] = defaultdict(lambda: defaultdict(list))
    columns = _columns(result)
    wanted: dict[str, list[str]] = {IMAGES: list(PLACE_COLUMNS)}
    for table, column in columns.values():
        wanted.setdefault(table, []).append(column)
    for shard in range(result.dataset.shards if columns else 0):
        for _, read in aligned_groups(result.dataset, shard, wanted):
            slots = [Slot(*row.values()) for row in read[IMAGES].select(list(PLACE_COLUMNS)).to_pylist()]
            for measure, (table, column) in columns.items():
                for slot, value in zip(slots, read[table].column(column).to_pylist(), strict=True):
                    if value is not None and slot.prompt_kind in result.record.prompt_kinds:
                        found[slot.prompt_kind, measure][slot.place].append(value)
    return {about: {place: float(np.mean(those)) for place, those in rows.items()} for about, rows in found.items()}


def _columns(result: Result) -> dict[str, tuple[str, str]]:
    """Measure → table and column of pictures' values; without those that are pooled, which count first and divide."""
    found: dict[str, tuple[str, str]] = {}
    for measure in result.record.measures:
        table = measure.table or SCORES
        if measure.column and f"{measure.column}_parts" not in _names(result, table):
            found[measure.measure] = table, measure.column
    return found


def _names(result: Result, table: str) -> Any:
    return result.dataset.footer(table, 0).schema.names


def _difference(first: Mapping[Place, float], other: Mapping[Place, float]) -> Interval:
    return mean_interval([other[place] - first[place] for place in sorted(first.keys() & other.keys())])
