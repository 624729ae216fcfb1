"""What was done otherwise than a protocol says, and the published values with it: such a number is not comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from controlmill.annotators.catalogue import load_class, parse_condition, stored_choice
from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.results import PublishedRecord

from ..sampling.settings import SamplingSettings
from .protocol import NOT_COMPARABLE, Protocol


def deviations(
    protocol: Protocol,
    sampling: SamplingSettings | None,
    pictures_per_row: int,
    truth: AnnotatorRecord,
    judge: AnnotatorRecord | None,
) -> list[str]:
    """What was done otherwise than the protocol says, each in a few words; nothing where all is as it says.

    Args:
        sampling: how the pictures were sampled; None where another program made them.
        truth: what made the true maps.
        judge: what annotated the sampled pictures; None where no map is compared.
    """
    found = []
    if sampling is not None:
        for one in fields(sampling):
            asked, done = getattr(protocol.sampling, one.name), getattr(sampling, one.name)
            if asked != done:
                found.append(f"{one.name} {done!r}, not {asked!r}")
    if pictures_per_row != protocol.pictures_per_row:
        found.append(f"{pictures_per_row} pictures a row, not {protocol.pictures_per_row}")
    if protocol.annotator:
        found += _made_otherwise("true maps", protocol.annotator, truth)
    if protocol.judge and judge is not None:
        found += _made_otherwise("judge's maps", protocol.judge, judge)
    return found


def published_beside(protocol: Protocol, deviating: Sequence[str]) -> Mapping[str, tuple[PublishedRecord, ...]]:
    """The published values by measure; their notes say why they are not comparable, where they are not."""
    if not deviating:
        return protocol.published
    why = "; ".join(deviating)
    return {
        measure: tuple(
            replace(value, note=f"{value.note}; {why}" if value.note else NOT_COMPARABLE + why) for value in several
        )
        for measure, several in protocol.published.items()
    }


def _made_otherwise(what: str, asked: str, record: AnnotatorRecord) -> list[str]:
    """Whether maps are by another annotator than was asked for, or by other weights than its published ones."""
    choice = parse_condition(asked)
    table = choice.table
    found = stored_choice(table, record.condition, record.variant, record.params or {})
    if found is None or (found.condition, found.variant, found.params) != (
        choice.condition,
        choice.variant,
        choice.params,
    ):
        return [f"{what} by {record.condition}={record.variant}, not {asked}"]
    network: Any = load_class(choice.target).network
    origins = {file.name: file.origin for file in record.network.weights} if record.network else {}
    return [
        f"{what} by other weights than the published {file.name}"
        for file in (network.weights if network else ())
        if not origins.get(file.name, "").startswith(f"{file.repo}@{file.revision}")
    ]
