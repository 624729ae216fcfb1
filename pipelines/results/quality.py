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
from controlmill.schemas.files.documents import plain
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.results import CEILING, OF_ROW, OF_SHARD, PROMPT_KIND, SAMPLE, MeasureRecord, ValueRecord
from controlmill.schemas.tables import CLIP_TEXT, IMAGES, LPIPS, TRUE
from controlmill.schemas.views.lookup import Place, rows_at
from controlmill.schemas.views.rows import aligned_groups

from ..engine.mend import look_at
from ..engine.stage import Stage
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

    def references(self, source: Dataset, rows: int) -> tuple[list[str], list[str]]:
        """The tables of features that they take of the source's rows: (those of the source, those of the results).

        A table of the source holds features of all its rows, for all evaluations. So it is used where it is there as it
        would be made now, and made where at least half of the rows are evaluated; else the results have their own.
        """
        index = source.whole_index(IMAGES)
        most = index is not None and 2 * rows >= sum(shard.rows for shard in index.shards)
        tables = dict.fromkeys(table for name in self.taken for table in PICTURE_MEASURES[name].of_source)
        whole = [table for table in tables if most or self._is_made(source, table)]
        return whole, [table for table in tables if table not in whole]

    def _is_made(self, source: Dataset, table: str) -> bool:
        stage = self.stage(source, [table])
        assert stage is not None
        return source.state(table).status == "complete" and not made_otherwise(source, stage)

    def tables_of_pictures(self) -> list[str]:
        """The tables of features that they take of the pictures themselves."""
        return [*dict.fromkeys(table for name in self.taken for table in PICTURE_MEASURES[name].tables)]

    def stage(self, dataset: Dataset, tables: Sequence[str], source: Dataset | None = None) -> Features | None:
        """The stage that makes tables, of a dataset or, with ``source``, of the rows that results were made for."""
        return plan_features(dataset, tables, self.weights or {}, self.device, source=source) if tables else None


def made_otherwise(dataset: Dataset, stage: Stage) -> list[str]:
    """Tables that were made in another way than a stage makes them, or from other images."""
    found = []
    for table, output in stage.outputs().items():
        seen = look_at(dataset, table) if dataset.committed(table) else None
        if seen and (seen.stale or any(differences(plain(made), output.provenance) for made, _ in seen.made)):
            found.append(table)
    return found


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
    tables = dict.fromkeys(table for name in quality.taken for table in PICTURE_MEASURES[name].tables)
    pictures = _pictures(results, [*tables])
    of_source = dict.fromkeys(table for name in quality.taken for table in PICTURE_MEASURES[name].of_source)
    places = {picture.place for those in pictures.values() for picture in those}
    true: dict[str, Mapping[Place, np.ndarray]] = {
        **_of_source(source, [table for table in of_source if table in references], places),
        **_of_rows(results, [table for table in of_source if table not in references]),
    }
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
        kept = name == LPIPS and name not in quality.lacking
        found.append(
            MeasureRecord(
                *(name, measure.lower_is_better, values, "distance" if kept else None, beside, notes),
                table=LPIPS if kept else None,
            )
        )
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
    """What rows have, of each table of the source."""
    found: dict[str, dict[Place, np.ndarray]] = {table: {} for table in tables}
    ordered = sorted(places)
    rows = rows_at(source, {table: ["features"] for table in tables}, ordered) if tables else iter(())
    for place, row in zip(ordered, rows, strict=False):
        for table in tables:
            if row[table]["features"] is not None:
                found[table][place] = np.asarray(row[table]["features"], np.float32)
    return found


def _of_rows(results: Dataset, tables: Sequence[str]) -> OfSource:
    """What rows have, of each table of the results that has features of them."""
    found: dict[str, dict[Place, np.ndarray]] = {table: {} for table in tables}
    wanted = {IMAGES: [OF_SHARD, OF_ROW], **{f"{TRUE}{table}": ["features"] for table in tables}}
    for shard in range(results.shards if tables else 0):
        for _, read in aligned_groups(results, shard, wanted):
            places = [(row[OF_SHARD], row[OF_ROW]) for row in read[IMAGES].to_pylist()]
            for table in tables:
                for place, features in zip(places, _stored(read[f"{TRUE}{table}"].column("features")), strict=True):
                    if isinstance(features, np.ndarray):
                        found[table].setdefault(place, features)
    return found
