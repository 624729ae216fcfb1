"""Parquet files as a corpus: tables with a column of pictures, as Hugging Face, img2dataset and others write them.

A picture's column is ``struct<bytes, path>`` or plain binary. The listing reads names alone; a worker reads a row group
once for the rows of it that follow one another.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from controlmill.schemas.errors import Damaged, MillError, Refused, error_text
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.files.shardfile import ShardFile, naming
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.images.formats import picture_endings
from controlmill.schemas.kinds import KEPT_TYPES

from ..engine.worker import this_worker
from .archives import ArchiveCorpus, located, named, refused
from .captions import MAX_BYTES, caption_in, caption_keys
from .corpus import PassedOver, Record, Source
from .folder import MAX_CAPTION_ERROR
from .img2dataset import STATUS, refusal
from .places import Place
from .row_groups import BUFFER, Layout, RowGroups

PICTURES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture", "photo", "bytes")  # of several, the first there is
NAMES = ("file_name", "filename", "file_path", "path", "__key__", "key")  # beside a column without paths
LISTED_ROWS = 8192
MAX_GROUPS = 1_000_000
MAX_ROWS = 2**40
MAX_EXPANSION = 1000  # of a column that is compressed
WHERE = re.compile(r"(\d{1,7})\+(\d{1,13})")


@dataclass(frozen=True)
class ParquetCorpus(ArchiveCorpus):
    """Parquet files; ``address`` is a path or a pattern of paths (:class:`places.Places`).

    A source is the path of the struct, else what a column of :data:`NAMES` says, else ``FILE/ROW``. Its locator is
    ``GROUP+ROW @FILE``, by the row's number in its row group. No size is known before it is read.
    """

    kind = "parquet"

    def list(self, passed: PassedOver | None = None, leave_out: Iterable[str] = ()) -> Iterator[Source]:
        """All rows, file by file; see :meth:`Corpus.list`. Files are looked at by a process of its own first."""
        with LayoutCheck(check_file) as check:
            for place in self.places.find(leave_out):
                seen = ("looked at", self.places.root, place.name, place.mark)
                try:
                    this_worker().once(seen, functools.partial(_checked, check, self.places.storage, place.name))
                except Damaged as error:
                    raise MillError(f"{self.places.root}/{place.name} cannot be read: {error}") from error
                yield from self.list_file(place, PassedOver() if passed is None else passed)

    def list_file(self, place: Place, passed: PassedOver) -> Iterator[Source]:
        """The rows of a file."""
        with closing(self.open(place.name)) as parquet:
            layout = self.layout(parquet)
            number = 0
            for group in range(parquet.metadata.num_row_groups):
                for row, said in enumerate(_listed(parquet, group, layout)):
                    source = named(_name(said, layout) or f"{place.name}/{number}")
                    if layout.status and not source.fault and said["status"] != "success":
                        source = refused(source, *refusal(said["status"], said["error_message"]))
                    yield source._replace(locator=f"{group}+{row} @{place.name}", etag=place.mark)
                    number += 1

    def open(self, name: str) -> ShardFile:
        """A file, open for reading.

        Raises:
            MillError: it is no Parquet file.
        """
        try:
            file = self.places.open(name)
        except OSError as error:
            why = error.strerror or error_text(error)
            raise MillError(f"{self.places.root}/{name} cannot be read: {why}") from error
        return ShardFile(file, BUFFER)

    def layout(self, parquet: ShardFile) -> Layout:
        """Where a file has what is read of it.

        Raises:
            MillError: it has no picture, or not the chosen columns.
        """
        schema = parquet.schema_arrow
        lacking = {name for name in (*self.columns.names, self.columns.caption) if name} - set(schema.names)
        if lacking:
            raise MillError(f"{parquet.name}: no column {', '.join(sorted(lacking))}; {_columns(schema)}")
        picture = schema.field(self._picture(schema, parquet.name))
        is_struct = pa.types.is_struct(picture.type)
        texts = [field.name for field in schema if _is_text(field.type)]
        has_path = is_struct and picture.type.get_field_index("path") >= 0
        path = f"{picture.name}.path" if has_path else next((name for name in NAMES if name in texts), None)
        captions = caption_keys(dict.fromkeys(schema.names)) + [name for name in ("txt",) if name in texts]
        return Layout(
            f"{picture.name}.bytes" if is_struct else picture.name,
            path,
            self.columns.caption or next(iter(captions), None),
            set(texts).issuperset(STATUS),
            tuple(self.columns.names),
        )

    def _picture(self, schema: pa.Schema, name: str) -> str:
        """The column of the pictures."""
        pictures = [field.name for field in schema if _is_picture(field.type)]
        chosen = self.columns.image
        if chosen:
            if chosen not in pictures:
                raise MillError(f"{name}: --image-column {chosen} is no column of pictures; {_columns(schema)}")
            return chosen
        known = [column for column in PICTURES if column in pictures]
        if not pictures:
            raise MillError(f"{name}: no column holds the bytes of pictures; {_columns(schema)}")
        if len(pictures) > 1 and not known:
            raise MillError(f"{name}: columns {', '.join(pictures)} hold bytes: choose with --image-column")
        return (known or pictures)[0]

    def kept_types(self) -> Mapping[str, str]:
        """The types of the columns in the first file; see :meth:`Corpus.kept_types`."""
        if not self.columns.kept:
            return {}
        with closing(self.open(self.places.find()[0].name)) as parquet:
            self.layout(parquet)
            return {name: _kept_type(parquet.schema_arrow.field(name)) for name in self.columns.names}

    def nothing_listed(self) -> str:
        """See :meth:`Corpus.nothing_listed`."""
        return f"{self.address}: no rows in these tables"

    def read(self, source: Source, max_bytes: int) -> Record:
        """A row; see :meth:`Corpus.read`.

        Raises:
            Refused: missing, unreadable, changed or too_many_bytes.
            JobFault: the file cannot be read any more.
        """
        where, name = located(source)
        found = WHERE.fullmatch(where)
        if found is None:
            raise Refused("missing", "the listing does not say which row it is")
        groups = this_worker().once((self, "row groups"), lambda: RowGroups(self.places, self._opened))
        try:
            row = groups.row(name, source.etag, int(found[1]), int(found[2]))
        except OSError as error:
            raise self.explain(error, source.source) from error
        layout = row.layout
        data = row.value(layout.picture)
        if data is None:
            raise Refused("missing", "its picture is null")
        if len(data) > max_bytes:
            raise Refused("too_many_bytes", f"{len(data)} bytes; the cap is {max_bytes}")
        kept = {name: row.value(name) for name in layout.kept}
        try:
            caption = caption_in(row.value(layout.caption)) if layout.caption else None
            if caption and len(caption) > MAX_BYTES:
                raise ValueError(f"a caption of more than {MAX_BYTES} characters")
            return Record(data, caption, columns=kept)
        except ValueError as error:
            said = f"{layout.caption}: {error}"
            return Record(data, caption_error=" ".join(said.split())[:MAX_CAPTION_ERROR], columns=kept)

    def _opened(self, name: str) -> tuple[ShardFile, Layout]:
        parquet = self.open(name)
        return parquet, self.layout(parquet)


def _checked(check: LayoutCheck, storage: Storage, name: str) -> bool:
    check(storage, name)
    return True


def check_file(storage: Storage, name: str) -> None:
    """What a file's footer says, before anything of it is read: sizes that cannot be are refused.

    Raises:
        MillError: it is damaged, or no Parquet file.
    """
    with closing(ShardFile(storage.open(name), BUFFER)) as parquet, naming(parquet.name):
        metadata = parquet.metadata
        parquet.schema_arrow  # noqa: B018 it raises
        if metadata.num_row_groups > MAX_GROUPS or not 0 <= metadata.num_rows <= MAX_ROWS:
            raise ValueError(f"it says that it has {metadata.num_rows} rows in {metadata.num_row_groups} groups")
        size = storage.fs.size(storage.path(name))
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for i in range(group.num_columns):
                column = group.column(i)
                stored, unfolded = column.total_compressed_size, column.total_uncompressed_size
                if not 0 <= stored <= size or not 0 <= unfolded <= stored * MAX_EXPANSION + BUFFER:
                    raise ValueError(
                        f"{column.path_in_schema} in row group {number} says that it has {stored} bytes, "
                        f"which unfold to {unfolded}"
                    )


def _listed(parquet: ShardFile, group: int, layout: Layout) -> Iterator[Mapping[str, Any]]:
    """What the listing needs of each row of a group."""
    if not layout.listed:
        yield from ({} for _ in range(parquet.metadata.row_group(group).num_rows))
        return
    with naming(parquet.name):
        batches = parquet.iter_batches(LISTED_ROWS, [group], layout.listed, use_threads=False)
    while True:
        with naming(parquet.name):
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)
            rows = pa.Table.from_batches([batch]).flatten().to_pylist()  # image.path is a column then
        yield from rows


def _name(said: Mapping[str, Any], layout: Layout) -> str | None:
    """A row's own name; where it is a key without an ending, with that of its column."""
    name: str | None = said.get(layout.path or "")
    if name and layout.path in ("key", "__key__") and "." not in name:
        ending = layout.picture if f".{layout.picture.lower()}" in picture_endings() else "jpg"
        return f"{name}.{ending}"
    return name or None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_picture(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def _kept_type(field: pa.Field) -> str:
    """The type that a column is kept as: its own, or text."""
    kind = field.type
    if _is_bytes(kind) or _is_picture(kind):
        raise MillError(f"--keep-columns {field.name}: it holds bytes, which are not kept beside the pictures")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _plain_type(kind.value_type)
        return f"list<{inner}>" if inner else "string"
    return _plain_type(kind) or "string"


def _plain_type(kind: pa.DataType) -> str | None:
    names = {"float": "float32", "halffloat": "float32", "double": "float64"}
    name = names.get(str(kind), str(kind))
    return name if name in KEPT_TYPES else None


def _columns(schema: pa.Schema) -> str:
    return f"there are: {', '.join(f'{field.name} ({field.type})' for field in schema)}"[:1000]
