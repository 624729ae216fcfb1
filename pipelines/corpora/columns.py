"""Which columns of a corpus's records are taken: the picture's, the caption's, and others that the images keep."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.kinds import KEPT_TYPES
from controlmill.schemas.tables import IMAGES, TABLES, arrow_type

TEXT = "string"
MAX_KEPT = 64  # columns
WHOLE = re.compile(r"\s*[+-]?[0-9]{1,30}\s*")
MAX_TEXT = 100_000  # characters of a value


@dataclass(frozen=True)
class Columns:
    """The user's choice of columns. In a tar they are endings of members (``jpg``) and fields of ``.json`` members.

    Args:
        image: the picture's; None: the corpus's kind knows it.
        caption: the caption's; None: the first of :data:`captions.KEYS` that is there.
        kept: of others, name and Arrow type (:data:`kinds.KEPT_TYPES`, also ``list<…>``); no type: as the corpus has
            it, see :meth:`Corpus.kept_types`.
    """

    image: str | None = None
    caption: str | None = None
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the kept ones."""
        return [name for name, _ in self.kept]

    def typed(self, types: Mapping[str, str]) -> Columns:
        """With a type for each kept column: the stated one, else that of ``types``, else text."""
        return replace(self, kept=tuple((name, kind or types.get(name, TEXT)) for name, kind in self.kept))


def parse_columns(image: str | None, caption: str | None, kept: Iterable[str]) -> Columns:
    """Columns from the options; ``kept`` are ``NAME`` or ``NAME:TYPE``, several separated by commas.

    Raises:
        MillError: a name twice or one that the images have anyway, or a type that cannot be kept.
    """
    found: dict[str, str] = {}
    for word in (word.strip() for entry in kept for word in entry.split(",")):
        name, _, kind = word.partition(":")
        if not name:
            continue
        if name in found:
            raise MillError(f"--keep-columns: {name} is there twice")
        if name in TABLES[IMAGES].schema.names:
            raise MillError(
                f"--keep-columns {name}: the table images has a column of this name that says something else"
            )
        if kind and kind not in KEPT_TYPES:
            raise MillError(f"--keep-columns {word}: a type is one of {', '.join(KEPT_TYPES)}")
        found[name] = kind
    if len(found) > MAX_KEPT:
        raise MillError(f"--keep-columns: {len(found)} columns; at most {MAX_KEPT} can be kept")
    return Columns(image, caption, tuple(found.items()))


def kept_values(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The kept columns of a record, as they are stored: null where it has none, or a value of another type."""
    return {name: _as(kind, row.get(name)) for name, kind in columns.kept}


def _as(kind: str, value: Any) -> Any:
    """A value of a JSON file, a CSV file or a table as one of an Arrow type; None where it is none."""
    if value is None or (value == "" and kind != TEXT):
        return None
    if kind.startswith("list<"):
        return [_as(kind[5:-1], item) for item in value] if isinstance(value, list | tuple) else None
    convert = _text if kind == TEXT else _truth if kind == "bool" else _number
    try:
        return convert(kind, value)
    except (TypeError, ValueError, OverflowError):  # whatever a file of anybody says
        return None


def _text(_: str, value: Any) -> str | None:
    """A text; another value of JSON as JSON, and what JSON has not (a time, a decimal) as it is printed."""
    is_json = isinstance(value, dict | list | tuple | bool | int | float)
    text = json.dumps(value, ensure_ascii=False, default=str) if is_json else str(value)
    return text if len(text) <= MAX_TEXT and "\0" not in text and text.encode() else None


def _truth(_: str, value: Any) -> bool | None:
    return {"true": True, "false": False}.get(str(value).lower())


def _number(kind: str, value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    if kind.startswith(("float", "double")):
        return float(value)
    number = int(value) if isinstance(value, int | str) and WHOLE.fullmatch(str(value)) else float(value)
    if not math.isfinite(number) or number != int(number):
        return None
    bits = arrow_type(kind).bit_width
    low, high = (0, 2**bits) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return int(number) if low <= number < high else None
