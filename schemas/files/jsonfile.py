"""JSON files read as dataclasses: their shape is checked once, by the types of the fields."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
FORBID = {"extra": "forbid"}  # ``__pydantic_config__`` of a dataclass whose files have no other fields
MOST_FAULTS = 3  # that a message tells


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def read_as(kind: type[T], path: Path) -> T:
    """A JSON file as a dataclass; no value is converted but whole numbers where a float is asked for.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, nested too deeply, or of another shape; the text says where, in one line.
    """
    from pydantic import ValidationError

    known: Any = kind
    try:
        made: T = _adapter(known).validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        said = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".lstrip(": ") for fault in faults[:MOST_FAULTS]]
        raise ValueError("; ".join(said) + (" …" if len(faults) > MOST_FAULTS else "")) from None
    return made
