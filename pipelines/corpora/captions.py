"""Captions and columns: what a text or a JSON file beside a picture says, and how such text is decoded.

None is no caption; what is there and not understood is an error that says so.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from .columns import Columns
from .files import read_regular

ENDINGS = (".txt", ".caption", ".json")  # looked for in this order, in the spellings that the folder holds
KEYS = ("caption", "text", "prompt", "captions")  # of JSON objects and metadata, in any case; the first that says one
MAX_BYTES = 100_000
BYTE_ORDER_MARKS = {  # UTF-32's begin as UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


Read = Callable[[Path, int], bytes]  # up to so many bytes of a file, and one more


def caption_beside(
    picture: Path,
    texts: str | None,
    read: Read = read_regular,
    columns: Columns = Columns(),  # noqa: B008 it is frozen
) -> str | None:
    """The caption beside a picture: ``name.txt``, ``name.caption`` or ``name.json``, or ``name.png.txt``…

    The first that says something counts: an empty file is none.

    Args:
        picture: the picture's path.
        texts: endings of the text files in its folder, as spelt there, separated by spaces; those with a ``+`` stand
            after the picture's whole name.
        read: how files are read.
        columns: which field of a JSON file is the caption, and which are kept beside it.

    Raises:
        ValueError: a file is there but cannot be read as a caption; with its name.
        OSError: it cannot be read at all.
    """
    for name, data in _files_beside(picture, texts, read):
        try:
            said = caption_of_file(data, name.lower().endswith(".json"), columns)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if said:
            return said
    return None


def fields_beside(picture: Path, texts: str | None, names: Collection[str], read: Read) -> dict[str, Any]:
    """Fields of the JSON files beside a picture, ``name.png.json`` before ``name.json``; none of one that is no object.

    Args:
        picture: the picture's path.
        texts: see :func:`caption_beside`.
        names: of the fields.
        read: how files are read.

    Raises:
        OSError: a file cannot be read.
    """
    found: dict[str, Any] = {}
    endings = " ".join(ending for ending in (texts or "").split() if ending.lower().endswith(".json"))
    for _, data in _files_beside(picture, endings, read):
        fields = json_object(data) or {}
        found = {**{name: fields[name] for name in names if name in fields}, **found}
    return found


def _files_beside(picture: Path, texts: str | None, read: Read) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the text files of a picture, in the order in which they are asked; read one after another."""
    stem = os.path.splitext(picture.name)[0]
    for ending in sorted((texts or "").split(), key=_order):
        beside = picture.with_name(f"{picture.name}{ending[1:]}" if ending[0] == "+" else f"{stem}{ending}")
        try:
            data = read(beside, MAX_BYTES)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno == errno.ENAMETOOLONG:
                continue
            raise
        yield beside.name, data


def _order(ending: str) -> tuple[int, str]:
    return ENDINGS.index(ending.removeprefix("+").lower()), ending  # +.txt before .txt


def caption_of_file(
    data: bytes,
    is_json: bool,
    columns: Columns = Columns(),  # noqa: B008 it is frozen
) -> str | None:
    """The caption in the bytes of a file. JSON needs none where it has columns to keep, or another field is chosen.

    Raises:
        ValueError: they are too many, no text, or JSON without a caption.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        text = data.decode(encoding_of(data))
    except UnicodeDecodeError as error:
        raise ValueError(f"neither UTF-8 nor UTF-16 with a byte order mark ({error.reason})") from error
    if not is_json or not text.strip():
        return clean(text)
    try:
        said = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(said, dict):
        return caption_in(said)
    keys = caption_keys(said) if columns.caption is None else [name for name in said if name == columns.caption]
    if not keys and columns.caption is None and said.keys().isdisjoint(columns.names):
        raise ValueError(f"none of {', '.join(KEYS)} in it")
    return first_caption(said, keys)


def json_object(data: bytes) -> dict[str, Any] | None:
    """The fields of a JSON object; None where it is another value or cannot be read."""
    try:
        value = json.loads(data.decode(encoding_of(data))) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def encoding_of(data: bytes) -> str:
    """What text is encoded in: by its byte order mark, else UTF-8."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")


def caption_keys(row: Mapping[Any, Any]) -> list[Any]:
    """The keys of a row that may say its caption, best first."""
    known = [key for key in row if isinstance(key, str) and key.lower() in KEYS]
    return sorted(known, key=lambda key: (KEYS.index(key.lower()), key))


def first_caption(row: Mapping[Any, Any], keys: list[Any]) -> str | None:
    """The first caption of the first of some values that says something; raises ValueError as :func:`first_captions`"""
    return next(iter(first_captions(row, keys)), None)


def first_captions(row: Mapping[Any, Any], keys: list[Any]) -> list[str]:
    """The captions of the first of some values that says something.

    Raises:
        ValueError: one before it is no caption.
    """
    for key in keys:
        try:
            said = captions_in(row[key])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
        if said:
            return said
    return []


def caption_in(value: Any) -> str | None:
    """The first of :func:`captions_in`."""
    return next(iter(captions_in(value)), None)


def captions_in(value: Any) -> list[str]:
    """A string, or those of a list of strings, that say something.

    Raises:
        ValueError: it is neither, or the first of them cannot be read.
    """
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(item, str) for item in texts):
        raise ValueError(f"neither a text nor a list of texts but {_kind(value)}")
    found = list[str]()
    for item in texts:
        try:
            said = clean(item)
        except ValueError:
            if not found:
                raise
            continue
        found += [said] if said else []
    return found


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list of other things", bool: "true or false"}
    return kinds.get(type(value), "a number")


def clean(text: str) -> str | None:
    """Without the space around it; None where nothing is left.

    Raises:
        ValueError: it holds NUL, or half a character, which no table can hold.
    """
    if "\0" in text:
        raise ValueError("it holds NUL characters (UTF-16 without a byte order mark?)")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds half a character ({error.reason})") from error
    return text.strip() or None
