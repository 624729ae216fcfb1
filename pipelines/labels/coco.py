"""JSON files of COCO's form: pictures, and annotations of them, read in bounded memory into an index."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.json_stream import elements
from controlmill.schemas.terminal.printing import printable

from .index import Label, LabelIndex, key_of

STEM = r"(?:COCO_[a-z]+\d{4}_)?([^/]+)\.\w+"  # the releases of 2014 and 2017 name a picture differently


def read_elements(path: str, names: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, object) of a file's arrays.

    Raises:
        MillError: it cannot be read, or is not of that form.
    """
    try:
        with Path(path).open("rb") as file:
            for number, (name, element) in enumerate(elements(file, names)):
                if not isinstance(element, dict):
                    raise ValueError(f"element {number} of {name} is no object")
                yield name, element
    except OSError as error:
        raise MillError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # Unicode's among them
        raise MillError(f"{path} is not a file of COCO's form: {printable(str(error))}") from error


def index_of(
    path: str, note: Callable[[dict[str, Any]], str | None], about: Callable[[dict[str, Any]], str] = lambda _: ""
) -> LabelIndex:
    """The pictures of a file by their names, with what ``note`` keeps of their annotations, and ``about`` of them.

    Raises:
        MillError: see :func:`read_elements`; or there is no picture in it.
    """
    index = LabelIndex()
    for name, element in read_elements(path, ("images", "annotations")):
        try:
            if name == "images":
                file_name = text_of(element, "file_name")
                index.add(picture_key(file_name), file_name, id_of(element, "id"), about(element))
            else:
                body = note(element)
                if body is not None:
                    index.note(id_of(element, "image_id"), number_of(element), body)
        except ValueError as error:
            raise MillError(f"{path}, {name}: {printable(str(error))}") from error
    if not index.count():
        raise MillError(f"{path}: it names no pictures")
    return index


def find_picture(index: LabelIndex, picture: str) -> Label:
    """The label of a picture, by the end of its name.

    Raises:
        Refused: missing, ambiguous.
    """
    return index.find(picture_key(picture), picture)


def picture_key(path: str) -> str:
    """What names a picture in any release: its name without the ending, and without ``COCO_train2014_``."""
    return key_of(STEM, path) or os.path.basename(path)


def size_of(picture: dict[str, Any]) -> str:
    """A picture's width and height as JSON, "" where it has none.

    Raises:
        ValueError: they are no sizes.
    """
    if "width" not in picture and "height" not in picture:
        return ""
    width, height = numbers_of([picture.get("width"), picture.get("height")], 2, "width and height")
    if min(width, height) < 1:
        raise ValueError("width and height must be at least 1")
    return json.dumps([int(width), int(height)])


def text_of(element: dict[str, Any], name: str) -> str:
    """A field that must be text.

    Raises:
        ValueError: it is not.
    """
    found = element.get(name)
    if not isinstance(found, str) or "\0" in found:
        raise ValueError(f"{name} is no text")
    return found


def id_of(element: dict[str, Any], name: str) -> str:
    """A field that is an id, a whole number or text, as text.

    Raises:
        ValueError: it is neither.
    """
    found = element.get(name)
    if isinstance(found, bool) or not isinstance(found, int | str) or len(str(found)) > 200:
        raise ValueError(f"{name} is no id")
    return str(found)


def number_of(element: dict[str, Any]) -> int:
    """An annotation's id where it is a number, for their order; else 0."""
    found = element.get("id")
    return found if isinstance(found, int) and abs(found) < 1 << 62 else 0


def numbers_of(values: Any, count: int, name: str) -> list[float]:
    """A list of so many finite numbers.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} is no list of {count} numbers")
    if not all(isinstance(value, int | float) and abs(value) < 1e9 for value in values):  # which NaN is not
        raise ValueError(f"{name}: not all are numbers")
    return [float(value) for value in values]
