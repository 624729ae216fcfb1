"""Lists of URLs: files of lines, CSV, TSV, JSON lines or Parquet, read record by record."""

from __future__ import annotations

import csv
import gzip
import io
import json
import posixpath
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from controlmill.schemas.errors import MillError, error_text

from .captions import MAX_BYTES, caption_keys, encoding_of, first_captions
from .columns import Columns

URL_COLUMNS = ("url", "image_url", "imageurl", "img_url")  # in any case; the first that is there
ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")  # and with .gz, but for Parquet
MAX_LINE = 1_000_000  # characters
BATCH_ROWS = 4096  # of Parquet


class Entry(NamedTuple):
    """A record of a list.

    Args:
        number: of its line or row, from 1.
        url: None where it has none.
        captions: those that say something; several where its value is a list.
        row: its values by column.
        fault: why it, or its caption, cannot be read.
    """

    number: int
    url: str | None
    captions: Sequence[str]
    row: Mapping[str, Any]
    fault: str | None = None

    @property
    def caption(self) -> str | None:
        """The first."""
        return next(iter(self.captions), None)


class NoUrls(MillError):
    """A list without a column of URLs."""


def kind_of(name: str) -> str:
    """The ending that says how a list is written: one of :data:`ENDINGS`, or another that is none of a list."""
    return posixpath.splitext(name.lower().removesuffix(".gz"))[1]


def read_list(file: BinaryIO, name: str, columns: Columns) -> Iterator[Entry]:
    """The records of a list, in their order; blank lines are none.

    Raises:
        NoUrls: it has no column of URLs.
        MillError: it is no such list, or lacks a column that was chosen; from there on it cannot be read.
    """
    kind = kind_of(name)
    try:
        if kind == ".parquet":
            yield from _parquet_entries(file, name, columns)
            return
        text = _text_of(_unpacked(file, name))
        if kind == ".txt":
            yield from _plain_entries(text)
        elif kind == ".jsonl":
            yield from _json_entries(text, name, columns)
        else:
            yield from _table_entries(text, name, columns, tabs=kind == ".tsv")
    except (OSError, EOFError, UnicodeError, zlib.error, pa.ArrowException) as error:
        raise MillError(f"{name} cannot be read: {error_text(error)}") from error


def schema_of(file: BinaryIO, name: str) -> pa.Schema | None:
    """The columns of a list that is a table, those of CSV as text; None where each record has its own.

    Raises:
        OSError, pyarrow.ArrowException, csv.Error: it cannot be read.
    """
    kind = kind_of(name)
    if kind == ".parquet":
        return pq.read_schema(file)
    if kind not in (".csv", ".tsv"):
        return None
    names = _header(csv.reader(_lines(_text_of(_unpacked(file, name))), delimiter="\t" if kind == ".tsv" else ","))
    return pa.schema([(column, pa.string()) for column in names])


def url_column(names: Iterable[str], columns: Columns) -> str | None:
    """The column of the URLs: the one that was chosen, else the first of :data:`URL_COLUMNS`, in any case."""
    names = list(names)
    if columns.image:
        return columns.image if columns.image in names else None
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in URL_COLUMNS if name in lower), None)


def _unpacked(file: BinaryIO, name: str) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if name.lower().endswith(".gz") else file


def _text_of(file: BinaryIO) -> IO[str]:
    """Text by its byte order mark, else UTF-8; what is not becomes surrogates, which no URL may hold."""
    buffered = io.BufferedReader(cast(Any, file))
    encoding = encoding_of(buffered.peek(4)[:4])
    return io.TextIOWrapper(buffered, encoding=encoding, errors="surrogateescape", newline="")


def _lines(text: IO[str]) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        yield line


def _plain_entries(text: IO[str]) -> Iterator[Entry]:
    for number, line in enumerate(_lines(text), 1):
        if url := line.strip():
            yield Entry(number, url, (), {})


def _json_entries(text: IO[str], name: str, columns: Columns) -> Iterator[Entry]:
    found = False
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            yield Entry(number, None, (), {}, "no object in JSON")
            continue
        column = url_column(row, columns)
        if column is None and not found:
            raise _no_urls(name, row, columns)
        found = True
        yield _entry(number, row, column, columns)


def _table_entries(text: IO[str], name: str, columns: Columns, tabs: bool) -> Iterator[Entry]:
    """Commas with quotes; or tabs, where a quote is a character like others."""
    lines = _lines(text)
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    try:
        header = _header(reader)
        column = _checked(name, header, columns)
        for values in reader:
            if values:
                row = dict(zip(header, map(_unquoted, values) if tabs else values, strict=False))
                yield _entry(reader.line_num, row, column, columns)
    except csv.Error as error:
        why = "" if tabs else ": a quote that is not closed?"
        raise MillError(f"{name} cannot be read: line {reader.line_num}: {error}{why}") from error


def _header(reader: Iterator[list[str]]) -> list[str]:
    return [column.strip() for column in next(reader, [])]


def _unquoted(value: str) -> str:
    whole = len(value) > 1 and value[0] == value[-1] == '"'
    return value[1:-1].replace('""', '"') if whole else value


def _parquet_entries(file: BinaryIO, name: str, columns: Columns) -> Iterator[Entry]:
    table = pq.ParquetFile(file)
    names = table.schema_arrow.names
    column = _checked(name, names, columns)
    wanted = {column, *_caption_columns(dict.fromkeys(names), columns), *columns.names}
    number = 0
    for batch in table.iter_batches(BATCH_ROWS, columns=[name for name in names if name in wanted]):
        for row in batch.to_pylist():
            number += 1
            yield _entry(number, row, column, columns)


def _caption_columns(row: Mapping[str, Any], columns: Columns) -> list[str]:
    if columns.caption:
        return [columns.caption] if columns.caption in row else []
    return caption_keys(row)


def _entry(number: int, row: Mapping[str, Any], column: str | None, columns: Columns) -> Entry:
    url = row.get(column) if column else None
    if not isinstance(url, str) or not url.strip():
        return Entry(number, None, (), row, "no URL")
    captions, fault = list[str](), None
    try:
        captions = first_captions(row, _caption_columns(row, columns))
        if captions and len(captions[0]) > MAX_BYTES:
            raise ValueError(f"a caption of more than {MAX_BYTES} characters")
    except ValueError as error:
        captions, fault = [], f"its caption cannot be read: {error}"
    return Entry(number, url.strip(), captions, row, fault)


def _checked(name: str, names: Sequence[str], columns: Columns) -> str:
    """The column of the URLs of a table, which has the chosen one of captions, too."""
    column = url_column(names, columns)
    if column is None:
        raise _no_urls(name, names, columns)
    check_columns(name, names, [columns.caption] if columns.caption else [])
    return column


def check_columns(name: str, there: Sequence[str], wanted: Iterable[str]) -> None:
    """Raise MillError where a table lacks columns."""
    lacking = [column for column in wanted if column not in there]
    if lacking:
        raise MillError(f"{name}: no column {', '.join(lacking)} (there are: {_shown(there)})")


def _no_urls(name: str, names: Iterable[str], columns: Columns) -> NoUrls:
    wanted = columns.image or " or ".join(URL_COLUMNS)
    return NoUrls(f"{name}: no column {wanted} of URLs; name it with --image-column (there are: {_shown(names)})")


def _shown(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:20])
