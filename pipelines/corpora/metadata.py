"""Metadata files in a folder of pictures: which pictures they name, with captions, and which files are no photographs.

``metadata.jsonl`` and ``metadata.csv`` as Hugging Face's image folders have them, and ``prompt.json`` as ControlNet's
tutorial does: a line for each picture, with its path relative to the file. What they say is kept on disk while the
folder is listed, so that memory does not grow with it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, BinaryIO

from controlmill.schemas.errors import MillError
from controlmill.schemas.images.formats import HEIF_ENDINGS, picture_endings

from .captions import MAX_BYTES, caption_keys, encoding_of, first_caption
from .columns import Columns
from .files import MAKE_ROOM
from .passed_over import PassedOver

NAMES = ("prompt.json", "metadata.csv", "metadata.jsonl")  # where several name a picture, the last one counts
PICTURE_COLUMNS = ("file_name", "image_file_name", "image", "target")  # the first that is there
MAX_LINE = 1_000_000  # characters
MAX_KEPT = 100_000
CREATE = (
    "CREATE TABLE named (path TEXT PRIMARY KEY, photo INTEGER, caption TEXT, columns TEXT, file INTEGER) WITHOUT ROWID"
)
PUT_PHOTO = """
    INSERT INTO named VALUES (?, 1, ?, ?, ?) ON CONFLICT (path)
    DO UPDATE SET photo = 1, caption = excluded.caption, columns = excluded.columns, file = excluded.file
    WHERE photo = 0 OR excluded.file > file
"""
PUT_OTHER = "INSERT OR IGNORE INTO named VALUES (?, 0, NULL, NULL, ?)"


class Metadata:
    """What the metadata files that were met so far say. ``passed`` counts.

    Args:
        passed: counts what is met.
        columns: what is kept of a picture's line beside its caption, and which of its values is that.
    """

    def __init__(self, passed: PassedOver, columns: Columns = Columns()):  # noqa: B008 it is frozen
        self.passed = passed
        self.columns = columns
        self._endings = picture_endings() | HEIF_ENDINGS
        self._database: sqlite3.Connection | None = None
        self._files = self._found = 0

    def read(self, file: BinaryIO, name: str, prefix: str) -> bool:
        """Read a file whose folder's address begins with ``prefix``; False where it is no metadata of pictures."""
        head = file.read(4)
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding_of(head), newline="")
        rows = (_csv_rows if name.endswith(".csv") else _json_rows)(text)
        try:
            first = next(rows, None)
            if first is None or picture_column(first[1]) is None:
                raise ValueError(f"names no picture: none of {', '.join(PICTURE_COLUMNS)}")
        except (ValueError, csv.Error) as error:
            if name != "prompt.json":  # which may be of a picture prompt.png
                self.passed.note(f"{prefix}{name}: {error}")
            return False
        self._files += 1
        self._put(*first, name, prefix)
        try:
            for number, row in rows:
                self._put(number, row, name, prefix)
        except (ValueError, csv.Error) as error:
            self.passed.note(f"{prefix}{name}: what follows is not read: {error}")
        return True

    def _put(self, number: int, row: dict[str, Any], name: str, prefix: str) -> None:
        column = picture_column(row)
        if column is None:
            self.passed.note(f"{prefix}{name}, line {number}: names no picture")
            return
        chosen = self.columns.caption
        captions = [key for key in row if key == chosen] if chosen else caption_keys(row)
        kept = json.dumps({key: row[key] for key in self.columns.names if key in row}) if self.columns.kept else None
        if kept and len(kept) > MAX_KEPT:
            self.passed.note(f"{prefix}{name}, line {number}: more than {MAX_KEPT} characters to keep")
            kept = None
        try:
            caption = first_caption(row, captions)
            if caption and len(caption) > MAX_BYTES:
                raise ValueError(f"a caption of more than {MAX_BYTES} characters")
        except ValueError as error:
            self.passed.note(f"{prefix}{name}, line {number}: {error}")
            caption = None
        if self._database is None:
            # a temporary file, used by one thread at a time
            self._database = sqlite3.connect("", check_same_thread=False)
            self._run(CREATE)
        others = [
            value for key, value in row.items() if key != column and key not in captions and self._is_picture(value)
        ]
        try:
            self._run(PUT_PHOTO, _path(prefix, row[column]), caption, kept, self._files)
            for other in others:
                self._run(PUT_OTHER, _path(prefix, other), self._files)
        except UnicodeEncodeError:
            self.passed.note(f"{prefix}{name}, line {number}: a name that is not UTF-8")

    def _run(self, statement: str, *values: str | int | None) -> sqlite3.Cursor:
        assert self._database is not None
        try:
            return self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise MillError(f"captions of metadata cannot be kept while listing ({error}): {MAKE_ROOM}") from error

    def _is_picture(self, value: Any) -> bool:
        return isinstance(value, str) and os.path.splitext(value)[1].lower() in self._endings

    def look_up(self, address: str) -> tuple[bool, str | None, str | None]:
        """(whether a picture is to be taken, its caption, JSON of its kept columns); one that no file names is."""
        if self._database is None:
            return True, None, None
        found = self._run("SELECT photo, caption, columns FROM named WHERE path = ?", address).fetchone()
        if found is None:
            return True, None, None
        self._found += found[0]
        return bool(found[0]), found[1], found[2]

    def close(self) -> None:
        """Count what was named, and forget it."""
        if self._database is not None:
            with closing(self._database):
                (self.passed.named,) = self._run("SELECT count(*) FROM named WHERE photo").fetchone()
            self.passed.absent = self.passed.named - self._found


def picture_column(row: Any) -> str | None:
    """The column with the picture's path; None where there is none."""
    if not isinstance(row, dict):
        return None
    return next((name for name in PICTURE_COLUMNS if isinstance(row.get(name), str) and row[name]), None)


def _path(prefix: str, name: str) -> str:
    return posixpath.normpath(prefix + name)


def _json_rows(text: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    """(line number, what is in it, None where that is no JSON)."""
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            yield number, None


def _csv_rows(text: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    reader = csv.reader(_lines(text))
    header = next(reader, [])
    for values in reader:
        if values:
            yield reader.line_num, dict(zip(header, values, strict=False))


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"a line of {MAX_LINE} characters or more")
        yield line
