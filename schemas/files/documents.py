"""JSON read as dataclasses: its shape is checked once, by the types of the fields. Files come from elsewhere too.

Whoever reads JSON of a dataset or a run reads it here, so that a malformed value is one message with the file's name,
however deep or large it is, and nothing behind this file needs to look twice.
"""

from __future__ import annotations

import functools
import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import Damaged
from ..terminal.printing import printable

MAX_BYTES = 256 * 1024 * 1024  # of JSON: the index of a table of bounds.MAX_SHARDS shards
SHOWN = 60  # characters of a value in a message
MOST_FAULTS = 3  # that a message tells
TYPES = {
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "dataclass_type": "an object",
    "bool_type": "true or false",
    "float_type": "a number",
    "finite_number": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
}
FORBID = {"extra": "forbid"}  # ``__pydantic_config__`` of a dataclass whose files have no other fields
T = TypeVar("T")


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def parse(data: bytes, kind: type[T]) -> T:
    """JSON, UTF-8, as a dataclass; no value is converted but whole numbers where a float is asked for.

    Raises:
        ValueError: not JSON, nested too deep, too large, or of another shape; the text says where, in one line.
    """
    from pydantic import ValidationError

    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    known: Any = kind
    try:
        found: T = _adapter(known).validate_json(data, strict=True)
    except ValidationError as error:
        faults = [_fault({**fault}) for fault in error.errors(include_url=False)]
        raise ValueError("; ".join(faults[:MOST_FAULTS]) + (" …" if len(faults) > MOST_FAULTS else "")) from None
    return found


def read_as(kind: type[T], path: Path) -> T:
    """A JSON file of this machine; see :func:`parse`.

    Raises:
        OSError: it cannot be read.
        ValueError: see :func:`parse`.
    """
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1), kind)


def made_of(kind: type[T], value: Any) -> T:
    """Plain values as a dataclass; raises ValueError as :func:`parse` does."""
    return parse(json.dumps(value).encode(), kind)


def plain(value: Any) -> Any:
    """The plain values of a dataclass's JSON, as :func:`parse` takes them: without fields that have their default.

    Plain values are taken as they are.
    """
    if not is_dataclass(value):
        return value
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json", exclude_defaults=True)


def _fault(fault: dict[str, Any]) -> str:
    """What is wrong with a value, where it stands and what it is."""
    kind, place, context = fault["type"], ".".join(map(str, fault["loc"])), fault.get("ctx", {})
    if kind == "missing":
        *inside, name = fault["loc"]
        return printable(f"no {name} in {'.'.join(map(str, inside))}" if inside else f"no {name}")
    if kind == "value_error":
        words = str(context["error"])
        return printable(f"{words} in {place}" if place and words.startswith("no ") else words)
    if kind == "json_invalid":
        return printable(fault["msg"])
    if kind.startswith("unexpected_keyword"):
        return printable(f"{place} is not known")[: 2 * SHOWN]
    if kind in ("greater_than_equal", "less_than_equal"):
        wanted = f"{'at least' if 'ge' in context else 'at most'} {context.get('ge', context.get('le'))}"
    elif kind == "string_pattern_mismatch":
        wanted = context["pattern"]
    elif kind == "literal_error":
        wanted = context["expected"]
    else:
        wanted = TYPES.get(kind, fault["msg"])
    value = fault["input"]
    named = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else ""
    return printable(f"{place or 'the whole'} is {(named or json.dumps(value, default=str))[:SHOWN]}, not {wanted}")


def damaged(where: str, error: BaseException, advice: str = "") -> Damaged:
    """What a file that cannot be read rightly is for a user."""
    return Damaged(f"{where} is damaged ({error}){f': {advice}' if advice else ''}")
