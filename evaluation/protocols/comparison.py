"""What was done otherwise than a protocol says, and the published values with it: such a number is not comparable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from controlmill.annotators.catalogue import load_class, parse_condition, stored_choice
from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.results import PublishedRecord

from ..sampling.settings import SamplingSettings
from .protocol import NOT_COMPARABLE, Protocol

BY_CHANCE = ("seed",)  # other noise decides no more than other rows of the same kind


@dataclass(frozen=True)
class Conduct:
    """How an evaluation is done, as far as a protocol has a say in it.

    Args:
        sampling: how the pictures are sampled; None where another program made them.
        pictures_per_row: of each kind of prompt.
        control: the table of the maps that are followed.
        truth: the table of the maps that the judge's are compared with.
        annotated: what made the true maps.
        judge: what annotates the pictures; None where no map is compared.
        corpora: where the rows' pictures are from, as far as this machine knows.
        shapes: (height, width) of the pictures.
    """

    sampling: SamplingSettings | None
    pictures_per_row: int
    control: str
    truth: str
    annotated: AnnotatorRecord
    judge: AnnotatorRecord | None = None
    corpora: Sequence[str] = ()
    shapes: Sequence[tuple[int, int]] = ()


def deviations(protocol: Protocol, done: Conduct) -> list[str]:
    """What was done otherwise than the protocol says, each in a few words; nothing where all is as it says."""
    found = list(_sampled_otherwise(protocol.sampling, done.sampling)) if done.sampling else []
    if done.pictures_per_row != protocol.pictures_per_row:
        found.append(f"{done.pictures_per_row} pictures a row, not {protocol.pictures_per_row}")
    if done.control != done.truth:
        found.append(f"pictures follow {done.control} and are compared with {done.truth}")
    if protocol.annotator:
        found += _made_otherwise("true maps", protocol.annotator, done.annotated)
    if protocol.judge and done.judge is not None:
        found += _made_otherwise("judge's maps", protocol.judge, done.judge)
    if protocol.dataset and not (done.corpora and all(_is_of(protocol.dataset, one) for one in done.corpora)):
        found.append(f"rows that are not known to be those of {protocol.dataset}")
    wanted = (protocol.size, protocol.size)
    if protocol.size and (others := [shape for shape in done.shapes if shape != wanted]):
        found.append(f"pictures of {others[0][1]}x{others[0][0]}, not {protocol.size}x{protocol.size}")
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


def _sampled_otherwise(asked: SamplingSettings, done: SamplingSettings) -> Iterator[str]:
    for one in fields(asked):
        wanted, given = getattr(asked, one.name), getattr(done, one.name)
        if wanted != given and one.name not in BY_CHANCE:
            yield f"{one.name} {given!r}, not {wanted!r}"


def _is_of(dataset: str, corpus: str) -> bool:
    """Whether the address of a corpus is a data set of the hub, at any revision, or a part of it."""
    return re.match(rf"hf://datasets/{re.escape(dataset)}(?:[@/]|$)", corpus) is not None


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
