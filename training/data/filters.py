"""Filters of rows by their columns, as ``--where`` gives them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": lambda found, value: found < value or found > value,  # NaN is neither
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
FILTER = re.compile(r"\s*(?:(?P<table>[\w-]+)\.)?(?P<column>\w+)\s*(?P<sign><=|>=|!=|==|=|<|>)\s*(?P<value>.+?)\s*")


@dataclass(frozen=True)
class Filter:
    """``TABLE.COLUMN SIGN VALUE``; without a table, a column of ``images``. Null and NaN pass no filter."""

    table: str
    column: str
    sign: str
    value: float | str

    @classmethod
    def parse(cls, text: str) -> Filter:
        """``hough.n_lines > 16`` or ``width >= 512``.

        Raises:
            MillError: not of that form.
        """
        match = FILTER.fullmatch(text)
        if match is None:
            raise MillError(f"--where {text!r}: write [TABLE.]COLUMN SIGN VALUE, e.g. 'hough.n_lines > 16'")
        word = match["value"].strip("'\"")
        try:
            value: float | str = float(word)
        except ValueError:
            value = word
        name = match["table"] or "images"
        return cls(CONDITIONS[name].table if name in CONDITIONS else name, match["column"], match["sign"], value)

    def passes(self, found: Any) -> bool:
        """Whether a row with this value is taken."""
        comparable = str if isinstance(self.value, str) else (int, float)
        return isinstance(found, comparable) and COMPARISONS[self.sign](found, self.value)


def check_filters(dataset: Dataset, where: Sequence[Filter]) -> None:
    """Raise MillError where a filter names no complete table, or no column of scalars."""
    for item in where:
        state = dataset.state(item.table) if item.table in dataset.tables() else None
        if item.table in ("sources", "rejected") or state is None or state.status != "complete":
            raise MillError(f"--where: {item.table} is not a complete table of {dataset.storage.address}")
        schema = dataset.footer(item.table, 0).schema
        scalars = [column.name for column in schema if not column.type.num_fields]
        if item.column not in scalars:
            raise MillError(f"--where: {item.table} has no column {item.column!r}; it has: {', '.join(scalars)}")
