"""The judge: annotators over the pictures of results, with the parameters that were drawn for the rows of the truth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controlmill.annotators.base import Annotator
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.results import OF_ROW, OF_SHARD
from controlmill.schemas.views.lookup import Place

from ..engine.stage import Output
from .aligned import ROW_COLUMNS
from .annotate import DRAWN, Annotate
from .beside import beside, beside_others


@dataclass(frozen=True)
class Judge(Annotate):
    """The stage, of one annotator. Where what was drawn differs by row, it makes two tables in one forward pass.

    Args:
        source: address of the dataset whose rows the pictures were made for.
        truth: its table that has the true maps.
        truth_sha256: fingerprint of that table.
        drawn: columns of it that the annotator takes in the place of its own draws.
        by_chance: its second table, of maps with what was drawn for other rows; "": it has none.
        others: those rows, see :func:`listing.other_places`.
    """

    source: str = ""
    truth: str = ""
    truth_sha256: str = ""
    drawn: tuple[str, ...] = ()
    by_chance: str = ""
    others: Mapping[Place, Place] = field(default_factory=dict)

    name = "judge"

    @property
    def table(self) -> str:
        """Of the maps that are compared with rows' own."""
        return self.groups[0].choices[0].table

    @property
    def chance_table(self) -> str:
        """Of the maps that are compared with other rows'."""
        return self.by_chance or self.table

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the images, that are read."""
        return (*ROW_COLUMNS, OF_SHARD, OF_ROW) if self.drawn else ROW_COLUMNS

    def outputs(self) -> dict[str, Output]:
        """The judge's tables; what was drawn for the truth decides them too."""
        made = super().outputs()
        if not self.drawn:
            return made
        given = {"table": self.truth, "sha256": self.truth_sha256, "columns": list(self.drawn)}
        return {
            table: Output(
                output.schema,
                {**output.provenance, "drawn": {**given, "of_others": True} if table == self.by_chance else given},
            )
            for table, output in made.items()
        }

    def completed(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """With what was drawn for the row that a picture was made for, and for another row."""
        if not self.drawn:
            yield from rows
            return
        source, columns = Dataset.open(self.source), {self.truth: self.drawn}
        rows, again = itertools.tee(rows)
        others = beside_others(again, source, columns, self.others) if self.by_chance else itertools.repeat(({}, None))
        for (row, own), (_, other) in zip(beside(rows, source, columns), others, strict=False):
            drawn = {
                table: {name: found[self.truth][name] for name in self.drawn}
                for table, found in ((self.table, own), (self.by_chance, other or own))
            }
            yield {**row, DRAWN: drawn}


def drawn_columns(annotator: Annotator, columns: Sequence[str]) -> tuple[str, ...]:
    """What an annotator draws for a row, where a table of the truth has all of it."""
    names = tuple(annotator.draw(np.random.default_rng(0)))
    return names if names and set(names) <= set(columns) else ()


def draws_differ(annotator: Annotator) -> bool:
    """Whether it draws other parameters for one row than for another."""
    return annotator.draw(np.random.default_rng(0)) != annotator.draw(np.random.default_rng(1))
