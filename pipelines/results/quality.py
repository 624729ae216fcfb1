"""Image quality of results: measures that look at no map, from tables of features of the results and their source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from controlmill.annotators.runtime.weights import Found, missing_message
from controlmill.evaluation.features.aesthetic import AESTHETIC, AestheticHead
from controlmill.evaluation.features.catalogue import PICTURE_MEASURES, find_feature_weights, without_weights
from controlmill.evaluation.features.distances import clip_score, cmmd, fid, kid
from controlmill.evaluation.measures.intervals import mean_interval
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.results import CEILING, OF_ROW, OF_SHARD, PROMPT_KIND, SAMPLE, MeasureRecord, ValueRecord
from controlmill.schemas.tables import CLIP_TEXT, IMAGES, LPIPS
from controlmill.schemas.views.lookup import Place, rows_at
from controlmill.schemas.views.rows import aligned_groups

from ..stages.features import Features, plan_features
from .summary import Published

Distance = Callable[[np.ndarray, np.ndarray], float]
DISTANCES: dict[str, Distance] = {"fid": fid, "kid": kid, "cmmd": cmmd}
LEFT_OUT = "left out: its weights were not found"


@dataclass(frozen=True)
class Quality:
    """Measures of pictures that are asked for.

    Args:
        measures: by name.
        weights: that were found.
        lacking: those measures that lack weights, and ``missing``, what to do about it.
        device: where networks run.
        of_groups: whether a distance between sets is the mean over j of that of picture j of every row.
    """

    measures: tuple[str, ...] = ()
    weights: Mapping[str, Found] | None = None
    lacking: tuple[str, ...] = ()
    missing: str = ""
    device: str = "cpu"
    of_groups: bool = False

    def messages(self) -> Iterator[str]:
        """What is left out, and why."""
        if self.lacking:
            yield f"{', '.join(self.lacking)} left out: {self.missing}"

    @property
    def taken(self) -> list[str]:
        """The measures that can be taken."""
        return [name for name in self.measures if name not in self.lacking]

    def features_of_source(self, source: Dataset) -> Features | None:
        """The stage that makes what they take of the dataset whose rows the pictures were made for."""
        return self._stage(source, [table for name in self.taken for table in PICTURE_MEASURES[name].of_source])

    def features_of_results(self, results: Dataset) -> Features | None:
        """The stage that makes what they take of the results."""
        return self._stage(results, [table for name in self.taken for table in PICTURE_MEASURES[name].tables])

    def _stage(self, dataset: Dataset, tables: Sequence[str]) -> Features | None:
        return plan_features(dataset, [*dict.fromkeys(tables)], self.weights or {}, self.device) if tables else None


def find_quality(measures: Sequence[str], folder: str | None, device: str, of_groups: bool = False) -> Quality:
    """The measures, with the weights of their networks as far as they are found.

    Raises:
        MillError: a file of weights is not what it should be.
    """
    weights, missing = find_feature_weights(measures, folder)
    lacking = tuple(without_weights(measures, weights))
    message = missing_message(missing, folder) if missing else ""
    return Quality(tuple(measures), weights, lacking, message, device, of_groups)


@dataclass(frozen=True)
class Picture:
    """A picture of results: the row that it was made for, which of its pictures it is, and its stored features."""

    place: Place
    sample: int
    features: Mapping[str, np.ndarray | float | None]


def quality_records(
    quality: Quality, results: Dataset, source: Dataset, prompts: Sequence[str], published: Published
) -> tuple[MeasureRecord, ...]:
    """Each measure's value for each kind of prompt; with a 95 % interval over rows where pictures have values.

    Args:
        quality: what is asked for; its tables are complete.
        results: whose pictures.
        source: the dataset that they were made for.
        prompts: kinds of prompt.
        published: what values are printed beside.
    """
    tables = dict.fromkeys(table for name in quality.taken for table in PICTURE_MEASURES[name].tables)
    pictures = _pictures(results, [*tables])
    of_source = dict.fromkeys(table for name in quality.taken for table in PICTURE_MEASURES[name].of_source)
    true = _of_source(source, [*of_source], {picture.place for those in pictures.values() for picture in those})
    found = []
    for name in quality.measures:
        measure = PICTURE_MEASURES[name]
        if name in quality.lacking:
            values, note = tuple(ValueRecord(kind, 0) for kind in prompts), LEFT_OUT
        else:
            best = _value(quality, name, CEILING, pictures.get(CEILING, []), true).value
            values = tuple(
                replace(_value(quality, name, kind, pictures.get(kind, []), true), ceiling=best) for kind in prompts
            )
            note = measure.note
        notes = "; ".join(filter(None, (note, published.notes.get(name, ""))))
        beside = tuple(published.values.get(name, ()))
        found.append(MeasureRecord(name, measure.lower_is_better, values, None, beside, notes))
    return tuple(found)


def _value(quality: Quality, name: str, kind: str, pictures: Sequence[Picture], true: OfSource) -> ValueRecord:
    if name in DISTANCES:
        return set_distance(name, kind, pictures, true, quality.of_groups)
    values = _values(quality, name, pictures, true)
    rows: dict[Place, list[float]] = defaultdict(list)
    for picture, value in zip(pictures, values, strict=True):
        if not np.isnan(value):
            rows[picture.place].append(value)
    interval = mean_interval([float(np.mean(those)) for those in rows.values()])
    return ValueRecord(kind, interval.rows, interval.value, interval.low, interval.high)


OfSource = Mapping[str, Mapping[Place, np.ndarray]]  # table → row → its features, where it has any


def set_distance(
    name: str, kind: str, pictures: Sequence[Picture], true: OfSource, of_groups: bool = False
) -> ValueRecord:
    """A distance between the pictures of a kind of prompt and those of their rows; a set has one, and no interval."""
    (table,) = PICTURE_MEASURES[name].tables
    groups: dict[int, list[np.ndarray]] = defaultdict(list)
    places: dict[int, set[Place]] = defaultdict(set)
    for picture in pictures:
        features = picture.features[table]
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


def _values(quality: Quality, name: str, pictures: Sequence[Picture], true: OfSource) -> np.ndarray:
    """Of each picture; NaN where it has none."""
    (table,) = PICTURE_MEASURES[name].tables
    values = np.full(len(pictures), np.nan)
    if table == LPIPS:
        values[:] = [np.nan if picture.features[LPIPS] is None else picture.features[LPIPS] for picture in pictures]
        return values
    known = [i for i, picture in enumerate(pictures) if picture.features[table] is not None]
    if name == "clip_score":
        known = [i for i in known if pictures[i].place in true[CLIP_TEXT]]
    if not known:
        return values
    embeddings = np.stack([np.asarray(pictures[i].features[table]) for i in known])
    if name == "clip_score":
        values[known] = clip_score(embeddings, np.stack([true[CLIP_TEXT][pictures[i].place] for i in known]))
    else:
        assert quality.weights
        values[known] = AestheticHead(Path(quality.weights[AESTHETIC.name].path)).scores(embeddings)
    return values


def _pictures(results: Dataset, tables: Sequence[str]) -> dict[str, list[Picture]]:
    """Prompt kind → its pictures."""
    found: dict[str, list[Picture]] = defaultdict(list)
    columns = {table: ["distance" if table == LPIPS else "features"] for table in tables}
    for shard in range(results.shards):
        wanted = {IMAGES: [OF_SHARD, OF_ROW, SAMPLE, PROMPT_KIND], **columns}
        for _, read in aligned_groups(results, shard, wanted):
            stored = {table: _stored(read[table].column(columns[table][0])) for table in tables}
            for number, row in enumerate(read[IMAGES].to_pylist()):
                features = {table: values[number] for table, values in stored.items()}
                found[row[PROMPT_KIND]].append(Picture((row[OF_SHARD], row[OF_ROW]), row[SAMPLE], features))
    return found


def _stored(column: pa.ChunkedArray) -> list[np.ndarray | float | None]:
    """Values of a column of numbers, or of lists of them."""
    values = column.to_pylist()
    return [np.array(value, np.float32) if isinstance(value, list) else value for value in values]


def _of_source(source: Dataset, tables: Sequence[str], places: set[Place]) -> OfSource:
    """What rows have, of each table."""
    found: dict[str, dict[Place, np.ndarray]] = {table: {} for table in tables}
    ordered = sorted(places)
    rows = rows_at(source, {table: ["features"] for table in tables}, ordered) if tables else iter(())
    for place, row in zip(ordered, rows, strict=False):
        for table in tables:
            if row[table]["features"] is not None:
                found[table][place] = np.asarray(row[table]["features"], np.float32)
    return found
