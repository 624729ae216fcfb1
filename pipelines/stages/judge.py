"""The judge: annotators over the pictures of results, with the parameters that were drawn for the rows of the truth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlmill.annotators.base import Annotator
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.results import OF_ROW, OF_SHARD
from controlmill.schemas.views.lookup import rows_at

from ..engine.stage import Output
from .aligned import ROW_COLUMNS
from .annotate import DRAWN, Annotate


@dataclass(frozen=True)
class Judge(Annotate):
    """The stage, of one annotator.

    Args:
        source: address of the dataset whose rows the pictures were made for.
        truth: its table that has the true maps.
        truth_sha256: fingerprint of that table.
        drawn: columns of it that the annotator takes in the place of its own draws.
    """

    source: str = ""
    truth: str = ""
    truth_sha256: str = ""
    drawn: tuple[str, ...] = ()

    name = "judge"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the images, that are read."""
        return (*ROW_COLUMNS, OF_SHARD, OF_ROW) if self.drawn else ROW_COLUMNS

    def outputs(self) -> dict[str, Output]:
        """The judge's table; what was drawn for the truth decides it too."""
        made = super().outputs()
        if not self.drawn:
            return made
        given = {"table": self.truth, "sha256": self.truth_sha256, "columns": list(self.drawn)}
        return {table: Output(output.schema, {**output.provenance, "drawn": given}) for table, output in made.items()}

    def completed(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """With what was drawn for the row that a picture was made for."""
        if not self.drawn:
            yield from rows
            return
        for row, found in beside(rows, Dataset.open(self.source), {self.truth: self.drawn}):
            yield {**row, DRAWN: {name: found[self.truth][name] for name in self.drawn}}


def beside(
    rows: Iterator[dict[str, Any]], source: Dataset, columns: Mapping[str, Sequence[str]]
) -> Iterator[tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    """Rows of the images of results, each with the row that it was made for: see :func:`lookup.rows_at`."""
    rows, ahead = itertools.tee(rows)
    return zip(rows, rows_at(source, columns, ((row[OF_SHARD], row[OF_ROW]) for row in ahead)), strict=True)


def drawn_columns(annotator: Annotator, columns: Sequence[str]) -> tuple[str, ...]:
    """What an annotator draws for a row, where a table of the truth has all of it."""
    names = tuple(annotator.draw(np.random.default_rng(0)))
    return names if names and set(names) <= set(columns) else ()
