"""The page of ``compare``: what it says, from results and their source, and its pictures as they are stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...dataset import Dataset
from ...errors import MillError
from ...intervals import Interval
from ...results import MeasureRecord
from ...tables import IMAGES, SCORES
from ..lookup import Place, rows_at
from .differing import differing
from .folder import PageFolder, new_folder
from .paired import differences
from .results import Result, Slot, chosen_places, rows_of, slots_of

NO_PICTURE = "is no PNG, JPEG or WebP"
SOURCE_COLUMNS = ["source", "image", "width", "height", "caption"]


@dataclass(frozen=True)
class Built:
    """What a page shows: rows of the source, and places of pictures, each with one of every result.

    ``differing`` is what the results differ in beside their method.
    """

    rows: int
    slots: int
    differing: list[str]


def build_page(results: Sequence[Result], source: Dataset, out: str, rows: int) -> Built:
    """Write the page of some results.

    Args:
        results: of ``source``.
        source: whose pictures and maps are shown beside them.
        out: the folder to write to.
        rows: how many source rows are shown at most; 0: all.

    Raises:
        MillError: a dataset is damaged, or ``out`` holds something else.
    """
    there = [slots_of(result) for result in results]
    places = chosen_places(there, rows)
    if not places:
        raise MillError("the results have no pictures")
    numbers = {place: number for number, place in enumerate(places)}
    kinds = tuple(dict.fromkeys(kind for result in results for kind in result.record.prompt_kinds))
    slots = sorted(
        {slot for those in there for slot in those if slot.place in numbers},
        key=lambda slot: (slot.place, kinds.index(slot.prompt_kind) if slot.prompt_kind in kinds else 0, slot.sample),
    )
    measures = measures_of(results)
    columns = [name for name, measure in measures.items() if measure.column]
    lines, beside = differing(results, there), differences(results)
    with new_folder(out, may_replace=True) as folder:
        cells = [_cells(folder, number, result, columns, numbers) for number, result in enumerate(results)]
        maps = map_tables(results)
        data = {
            "results": [_described(result) for result in results],
            "measures": [
                {
                    "name": name,
                    "lower": measure.lower_is_better,
                    "single": bool(measure.column),
                    "why": why_not(measure),
                }
                for name, measure in measures.items()
            ],
            "differing": lines,
            "notes": _notes(results),
            "kinds": kinds,
            "values": [_values(result, list(measures), kinds) for result in results],
            "against": [
                [[_interval(those.get((kind, name))) for name in measures] for kind in kinds] for those in beside
            ],
            "published": published_rows(results, list(measures)),
            "maps": [{"name": table, "role": role} for table, role in maps.items()],
            "columns": [list(measures).index(name) for name in columns],
            "rows": _source_rows(folder, source, list(maps), places),
            "slots": [
                [numbers[slot.place], slot.prompt_kind, slot.sample, [those.get(slot) for those in cells]]
                for slot in slots
            ],
        }
        folder.save_page("compare", f"{len(results)} results compared", data)
    return Built(len(places), len(slots), lines)


def measures_of(results: Sequence[Result]) -> dict[str, MeasureRecord]:
    """The measures of all results by name, in the order in which they come; as the first that has it says it."""
    found: dict[str, MeasureRecord] = {}
    for result in results:
        for measure in result.record.measures:
            known = found.setdefault(measure.measure, measure)
            if known.lower_is_better != measure.lower_is_better:
                raise MillError(f"{result.name}: another {measure.measure} than {results[0].name}'s: evaluate one anew")
            if measure.column and not known.column:
                found[measure.measure] = measure
    return found


def why_not(measure: MeasureRecord) -> str:
    """Why pictures cannot be sorted by a measure; "" where they can."""
    return "" if measure.column else "no single picture has one"


def map_tables(results: Sequence[Result]) -> dict[str, str]:
    """Tables of the source that are shown, each with what it is to the results."""
    given = dict.fromkeys(result.record.control for result in results)
    truth = dict.fromkeys(result.record.truth for result in results)
    roles = {table: "given, and the truth" if table in truth else "given" for table in given}
    return {**roles, **{table: "the truth" for table in truth if table not in given}}


def published_rows(results: Sequence[Result], measures: Sequence[str]) -> list[dict[str, Any]]:
    """Published methods, each with its value of every measure, and why it cannot be compared where it cannot."""
    rows: dict[tuple[str, str, str], list[list[float] | None]] = {}
    for result in results:
        for measure in result.record.measures:
            for one in measure.published:
                cells = rows.setdefault((one.method, one.source, one.note), [None] * len(measures))
                deviation = [] if one.deviation is None else [one.deviation]
                cells[measures.index(measure.measure)] = [one.value, *deviation]
    return [
        {"method": method, "source": source, "note": note, "values": values}
        for (method, source, note), values in rows.items()
    ]


def finite(value: float | None) -> float | None:
    """A number that JSON can hold; None in place of others."""
    return value if value is not None and math.isfinite(value) else None


def _described(result: Result) -> dict[str, Any]:
    record = result.record
    return {"name": result.name, "method": record.method, "protocol": record.protocol, "judged": record.judged}


def _notes(results: Sequence[Result]) -> list[str]:
    notes: dict[str, list[str]] = {}
    for result in results:
        for measure in result.record.measures:
            for note in (measure.note, *(value.note for value in measure.values)):
                if note:
                    notes.setdefault(f"{measure.measure}: {note}", []).append(result.name)
    return [f"{note} ({', '.join(dict.fromkeys(names))})" for note, names in notes.items()]


def _values(result: Result, measures: Sequence[str], kinds: Sequence[str]) -> list[list[list[float | None] | None]]:
    """Kind → measure → (value, low, high, rows, chance, ceiling)."""
    known = {
        (value.prompt_kind, measure.measure): [
            *(value.value, value.low, value.high, value.rows),
            *(value.chance, value.ceiling),
        ]
        for measure in result.record.measures
        for value in measure.values
    }
    return [[known.get((kind, name)) for name in measures] for kind in kinds]


def _interval(of: Interval | None) -> list[float | None] | None:
    """(value, low, high, rows); None where nothing is known."""
    return None if of is None or of.value is None else [of.value, of.low, of.high, of.rows]


def _cells(
    folder: PageFolder, number: int, result: Result, measures: Sequence[str], numbers: Mapping[Place, int]
) -> dict[Slot, list[Any]]:
    """Of each picture of a result: file, file of the judge's map, scores, prompt, and what is wrong."""
    judged = result.record.judged
    known = {measure.measure: (measure.table or SCORES, measure.column) for measure in result.record.measures}
    columns = {IMAGES: ["image", "caption"], **({judged: ["map", "reason", "error"]} if judged else {})}
    columns |= {table: ["reason", "error", *names] for table, names in result.columns.items()}
    compared = [table for table in result.tables if table in (judged, SCORES)]
    found: dict[Slot, list[Any]] = {}
    for slot, row in rows_of(result, columns):
        at = numbers.get(slot.place)
        if at is None:
            continue
        name = f"{number}/{at:06d}-{len(found):06d}"
        picture = folder.save_picture(name, stored_bytes(row[IMAGES]["image"]))
        judge_map = folder.save_picture(f"{name}-judged", stored_bytes(row[judged]["map"])) if judged else None
        places = [known.get(measure, (SCORES, None)) for measure in measures]
        scores = [finite(row.get(table, {}).get(column or "")) for table, column in places]
        faults = [f"the picture {NO_PICTURE}"] if picture is None else []
        faults += [f"{row[t]['reason']}: {row[t]['error']}" for t in compared if row[t]["reason"]]
        found[slot] = [picture, judge_map, scores, row[IMAGES]["caption"], "; ".join(dict.fromkeys(faults))]
    return found


def _source_rows(folder: PageFolder, source: Dataset, maps: Sequence[str], places: Sequence[Place]) -> list[list[Any]]:
    """Of each row: name, width, height, picture's file, and of each map its file."""
    columns = {IMAGES: SOURCE_COLUMNS, **{table: ["map"] for table in maps}}
    rows = []
    for number, row in enumerate(rows_at(source, columns, places)):
        image = row[IMAGES]
        files = [folder.save_picture(f"source/{number:06d}", stored_bytes(image["image"]))]
        for at, table in enumerate(maps):
            files.append(folder.save_picture(f"map{at}/{number:06d}", stored_bytes(row[table]["map"])))
        rows.append([image["source"], image["width"], image["height"], *files])
    return rows


def stored_bytes(stored: Mapping[str, Any] | None) -> bytes:
    """Of a stored picture or map; none where there is none."""
    return (stored or {}).get("bytes") or b""
