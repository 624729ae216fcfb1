"""The condition that a table stores: what its provenance says that it is, whatever the table is called."""

from __future__ import annotations

from dataclasses import replace

from .annotator_records import ReadingRecord
from .conditions import CONDITIONS, Condition, imported
from .errors import MillError
from .maps.label_files import named_set
from .maps.labels import LabelSet, label_palette
from .provenance import Provenance


def stored_condition(provenance: Provenance) -> Condition:
    """The condition of a table.

    Args:
        provenance: of a condition's table.

    Raises:
        MillError: maps of that condition are of another kind than is said; or its label set is damaged.
    """
    annotator, kind = provenance.made_by, provenance.map_kind
    condition = CONDITIONS.get(annotator.condition) or imported(annotator.condition, kind)
    if condition.kind != kind:
        raise MillError(
            f"table {provenance.table} says that it holds {condition.name} as {kind}, which is {condition.kind}"
        )
    return replace(
        condition.in_table(provenance.table),
        x_channel=annotator.x_channel,
        palette=_palette(condition, annotator.reading) if kind == "labels" else b"",
        is_imported=annotator.is_imported,
        reading=annotator.reading,
    )


def _palette(condition: Condition, reading: ReadingRecord | None) -> bytes:
    if reading and reading.label_set:
        return LabelSet.of(reading.label_set).palette()
    return named_set(condition.label_set).palette() if condition.label_set else label_palette()
