"""Tables of a dataset for people: what is there, how far it is, what was refused and why."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ..annotator_records import PlacementRecord
from ..dataset import Dataset
from ..files.shardfile import read_rows
from ..index import TableState
from ..maps.meaning import Reading
from ..provenance import IngestRecord, Provenance
from ..result_records import SamplesRecord
from ..retries import refused_pictures, retried_rejects
from ..segments import Segment
from ..stored import stored_condition
from ..tables import IMAGES, REJECTED
from ..terminal.printing import counted, printable


def table_report(dataset: Dataset, tables: Sequence[str]) -> Table:
    """One line a table; empty maps (coverage 0), refused rows by reason."""
    report = Table(box=None, header_style="bold", pad_edge=False)
    for column, justify in (
        ("table", "left"),
        ("made", "left"),
        ("rows", "right"),
        ("size", "right"),
        ("empty", "right"),
        ("refused", "left"),
    ):
        report.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name in tables:
        state = dataset.state(name)
        reasons = refused_pictures(dataset) if name == IMAGES else state.reasons
        shards = f"{state.committed} of {dataset.shards} shards"
        made = {"partial": shards, "behind": f"behind: {shards}"}.get(state.status, state.status)
        refused = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items())) or "–"
        cells = (
            name,
            made,
            f"{state.rows:,}",
            size_text(state.bytes),
            f"{state.empty:,}" if state.empty else "–",
            refused,
        )
        report.add_row(*(Text(printable(cell)) for cell in cells))
    return report


def empty_lines(dataset: Dataset, tables: Sequence[str]) -> list[str]:
    """A line for each table with maps that show nothing."""
    states = [dataset.state(table) for table in tables]
    return [
        f"{state.table}: {state.empty:,} of {state.rows:,} maps are empty (their coverage is 0); "
        f"train --where '{state.table}.coverage>0' leaves them out"
        for state in states
        if state.empty
    ]


def growth_lines(dataset: Dataset, segments: Sequence[Segment]) -> list[str]:
    """What became of the pictures of some segments, a line for each."""
    index, refused = dataset.whole_index(IMAGES), dataset.whole_index(REJECTED)
    lines = []
    for segment in segments if index and refused else ():
        assert index and refused
        kept = sum(index.shards[shard].rows for shard in segment.range)
        reasons: Counter[str] = Counter()
        for shard in segment.range:
            reasons.update(refused.shards[shard].reasons)
        what = "added" if segment.retries is None else "taken again"
        said = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        lines.append(
            f"{counted(segment.rows, 'picture')} {what}, from shard {segment.first_shard} to {segment.range.stop - 1}: "
            f"{kept:,} kept{f', {reasons.total():,} refused ({said})' if reasons else ''}"
        )
    return lines


def first_rejects(dataset: Dataset, count: int) -> list[str]:
    """The first refused files: source, reason, error; those that were taken again are not among them."""
    rows = itertools.islice(_rejects(dataset), count)
    return [f"  refused {row['source']}: {row['reason']}, {row['error']}" for row in rows]


def _rejects(dataset: Dataset) -> Iterator[dict[str, Any]]:
    again = retried_rejects(dataset)
    for shard in sorted(dataset.committed(REJECTED)):
        with dataset.parquet(REJECTED, shard) as parquet:
            for number, row in enumerate(read_rows(parquet, ("source", "reason", "error"))):
                if (shard, number) not in again:
                    yield row


def size_text(count: int) -> str:
    """Bytes for people."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def provenance_text(state: TableState) -> str:
    """How a finished table was made, in one line."""
    if state.index is None:
        return ""
    made = state.index.provenance
    if made.encoder:
        mirrored = ", mirrored too" if made.mirrored else ""
        stored = f"encoder sha256 {made.encoder.sha256[:12]}, stored as {made.encoder.stored}{mirrored}"
        return f"{stored}; {_place_text(made.encoder.placement)}"
    if made.samples:
        return _samples_text(made.samples)
    if made.scored or made.picture_scores or made.features:
        return _measured_text(made)
    if made.annotator is None:
        return _fit_text(made.ingest) if made.ingest else ""
    annotator = made.annotator
    params = ", ".join(f"{name} {value}" for name, value in (annotator.params or {}).items())
    parts = [f"{annotator.condition}={annotator.variant} v{annotator.version}", params]
    if annotator.is_imported:
        parts.append(Reading.of(stored_condition(made)).described())
    if annotator.network:
        files = annotator.network.weights
        parts.append(", ".join(f"{file.name} from {file.origin}, sha256 {file.sha256[:12]}" for file in files))
    if annotator.placement:
        parts.append(_place_text(annotator.placement))
    if made.drawn:
        whose = ", for other rows" if made.drawn.of_others else ""
        parts.append(f"{', '.join(made.drawn.columns)} as drawn for {made.drawn.table} of the source{whose}")
    return "; ".join(part for part in parts if part)


def _fit_text(ingest: IngestRecord) -> str:
    return "fit none" if ingest.fit == "none" else f"{ingest.resolution} px, fit {ingest.fit}"


def _measured_text(made: Provenance) -> str:
    if made.scored:
        return f"{', '.join(made.scored.measures)}; {made.scored.judge} against {made.scored.truth} of the source"
    if made.picture_scores:
        return f"{', '.join(made.picture_scores.measures)} from {', '.join(made.picture_scores.features)}"
    assert made.features
    weights = ", ".join(f"{file.name} from {file.origin}" for file in made.features.network.weights)
    return f"{made.features.network.name}; {weights}; {_place_text(made.features.placement)}"


def _samples_text(made: SamplesRecord) -> str:
    parts = [f"protocol {made.protocol}", f"for {made.condition}", f"prompts {', '.join(made.prompts)}"]
    parts.append(f"{made.pictures_per_row} pictures a row")
    if made.sampler is None:
        return "; ".join([*parts, "made by another method"])
    names = [f"{one.name} (sha256 {one.sha256[:12]})" for one in made.sampler.controlnets]
    base = f"base {made.sampler.base} (sha256 {made.sampler.base_sha256[:12]})"
    settings = ", ".join(f"{name} {value}" for name, value in made.sampler.settings.items())
    return "; ".join([*parts, *names, base, settings, _place_text(made.sampler.placement)])


def _place_text(place: PlacementRecord) -> str:
    return f"{place.device} {place.dtype}, batch {place.batch_size}"
