"""Values of measures that look at no map, from the tables of results and, for distances, of their source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from controlmill.evaluation.features.catalogue import PICTURE_MEASURES
from controlmill.evaluation.features.distances import cmmd, fid, kid
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.intervals import mean_interval
from controlmill.schemas.results import CEILING, OF_ROW, OF_SHARD, PROMPT_KIND, SAMPLE, MeasureRecord, ValueRecord
from controlmill.schemas.tables import IMAGES
from controlmill.schemas.views.lookup import Place, rows_at
from controlmill.schemas.views.rows import aligned_groups

from ..stages.beside import features_of_rows, place_of
from .quality import Quality
from .summary import Published

Column = tuple[str, str]  # of a table
Distance = Callable[[np.ndarray, np.ndarray], float]
DISTANCES: dict[str, Distance] = {"fid": fid, "kid": kid, "cmmd": cmmd}
LEFT_OUT = "left out: its weights were not found"


@dataclass(frozen=True)
class Picture:
    """A picture of results: the row that it was made for, which of its pictures it is, and what is stored of it."""

    place: Place
    sample: int
    values: Mapping[Column, Any]


def quality_records(
    quality: Quality,
    results: Dataset,
    source: Dataset,
    references: Sequence[str],
    prompts: Sequence[str],
    published: Published,
) -> tuple[MeasureRecord, ...]:
    """Each measure's value for each kind of prompt; with a 95 % interval over rows where pictures have values.

    Args:
        quality: what is asked for; its tables are complete.
        results: whose pictures.
        source: the dataset that they were made for.
        references: the tables of features of its rows that it has itself; the results have the others.
        prompts: kinds of prompt.
        published: what values are printed beside.
    """
    pictures = _pictures(results, _columns(quality.taken))
    of_source = dict.fromkeys(
        table for name in quality.taken if name in DISTANCES for table in PICTURE_MEASURES[name].of_source
    )
    places = {picture.place for those in pictures.values() for picture in those}
    true: dict[str, Mapping[Place, np.ndarray]] = {
        **_of_source(source, [table for table in of_source if table in references], places),
        **features_of_rows(results, [table for table in of_source if table not in references]),
    }
    found = []
    for name in quality.measures:
        measure = PICTURE_MEASURES[name]
        if name in quality.lacking:
            values, note = tuple(ValueRecord(kind, 0) for kind in prompts), LEFT_OUT
        else:
            best = value_of(quality, name, CEILING, pictures.get(CEILING, []), true).value
            values = tuple(
                replace(value_of(quality, name, kind, pictures.get(kind, []), true), ceiling=best) for kind in prompts
            )
            note = measure.note
        notes = "; ".join(filter(None, (note, published.notes.get(name, ""))))
        beside = tuple(published.values.get(name, ()))
        table, column = (measure.stored if name not in quality.lacking else None) or (None, None)
        found.append(MeasureRecord(name, measure.lower_is_better, values, column, beside, notes, table))
    return tuple(found)


OfSource = Mapping[str, Mapping[Place, np.ndarray]]  # table → row → its features, where it has any


def set_distance(
    name: str, kind: str, pictures: Sequence[Picture], true: OfSource, of_groups: bool = False
) -> ValueRecord:
    """A distance between the pictures of a kind of prompt and those of their rows; a set has one, and no interval."""
    (table,) = PICTURE_MEASURES[name].tables
    groups: dict[int, list[np.ndarray]] = defaultdict(list)
    places: dict[int, set[Place]] = defaultdict(set)
    for picture in pictures:
        features = picture.values[table, "features"]
        if isinstance(features, np.ndarray) and picture.place in true[table]:
            group = picture.sample if of_groups else 0
            groups[group].append(features)
            places[group].add(picture.place)
    rows = len(set().union(*places.values()))
    if not groups or min(map(len, places.values())) < 2:
        return ValueRecord(kind, rows, note="too few pictures")
    values = [
        DISTANCES[name](np.stack(those), np.stack([true[table][place] for place in sorted(places[group])]))
        for group, those in groups.items()
    ]
    dimensions = len(next(iter(groups.values()))[0])
    few = name == "fid" and min(rows, *map(len, groups.values())) <= dimensions
    note = f"of no more pictures than its {dimensions:,} dimensions: much too high, and by chance" if few else ""
    return ValueRecord(kind, rows, float(np.mean(values)), note=note)


def value_of(quality: Quality, name: str, kind: str, pictures: Sequence[Picture], true: OfSource) -> ValueRecord:
    """A measure of the pictures of a kind of prompt: a distance of the set, or a mean over rows with its interval."""
    stored = PICTURE_MEASURES[name].stored
    if stored is None:
        return set_distance(name, kind, pictures, true, quality.of_groups)
    rows: dict[Place, list[float]] = defaultdict(list)
    for picture in pictures:
        value = picture.values[stored]
        if value is not None:
            rows[picture.place].append(value)
    interval = mean_interval([float(np.mean(those)) for those in rows.values()])
    return ValueRecord(kind, interval.rows, interval.value, interval.low, interval.high)


def _columns(measures: Sequence[str]) -> list[Column]:
    """What measures take of each picture of results: its own value, or, for a distance of sets, its features."""
    taken = (PICTURE_MEASURES[name] for name in measures)
    return [*dict.fromkeys(measure.stored or (measure.tables[0], "features") for measure in taken)]


def _pictures(results: Dataset, columns: Sequence[Column]) -> dict[str, list[Picture]]:
    """Prompt kind → its pictures."""
    found: dict[str, list[Picture]] = defaultdict(list)
    wanted: dict[str, list[str]] = {IMAGES: [OF_SHARD, OF_ROW, SAMPLE, PROMPT_KIND]}
    for table, column in columns:
        wanted.setdefault(table, []).append(column)
    for shard in range(results.shards):
        for _, read in aligned_groups(results, shard, wanted):
            stored = {(table, column): _stored(read[table].column(column)) for table, column in columns}
            for number, row in enumerate(read[IMAGES].to_pylist()):
                values = {column: those[number] for column, those in stored.items()}
                found[row[PROMPT_KIND]].append(Picture(place_of(row), row[SAMPLE], values))
    return found


def _stored(column: pa.ChunkedArray) -> list[Any]:
    """Values of a column of numbers, or of lists of them: these as float32 arrays."""
    values = column.to_pylist()
    return [np.array(value, np.float32) if isinstance(value, list) else value for value in values]


def _of_source(source: Dataset, tables: Sequence[str], places: set[Place]) -> OfSource:
    """What rows have, of each table of the source."""
    found: dict[str, dict[Place, np.ndarray]] = {table: {} for table in tables}
    ordered = sorted(places)
    rows = rows_at(source, {table: ["features"] for table in tables}, ordered) if tables else iter(())
    for place, row in zip(ordered, rows, strict=False):
        for table in tables:
            if row[table]["features"] is not None:
                found[table][place] = np.asarray(row[table]["features"], np.float32)
    return found
