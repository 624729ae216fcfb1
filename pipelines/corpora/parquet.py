"""Parquet files as a corpus: tables with a column of pictures, as Hugging Face, img2dataset and others write them.

A picture's column is ``struct<bytes, path>`` or plain binary. The listing reads names alone; a worker reads a row group
once for the rows of it that follow one another.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from controlmill.schemas.errors import Damaged, MillError, Refused, error_text
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.files.shardfile import ShardFile, naming
from controlmill.schemas.images.formats import picture_endings

from ..engine.worker import this_worker
from .archives import ArchiveCorpus, below, located, named, refused
from .captions import MAX_BYTES, caption_in
from .corpus import Record, Source
from .folder import MAX_CAPTION_ERROR
from .img2dataset import SUCCESS, refusal
from .passed_over import PassedOver
from .places import Place
from .row_groups import RowGroups
from .table_layout import BUFFER, Layout, check_columns, check_file, kept_type, layout_of

LISTED_ROWS = 8192
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
                with self._looked_at(place, check):
                    yield from self._rows(place)

    @contextmanager
    def _looked_at(self, place: Place, check: LayoutCheck) -> Iterator[None]:
        """What is wrong with a file, or found wrong while it is read, is a MillError with its name."""
        seen = ("looked at", self.places.root, place.name, place.mark)
        try:
            this_worker().once(seen, functools.partial(check, self.places.storage, place.name))
            yield
        except (Damaged, OSError) as error:
            why = error_text(error) if isinstance(error, OSError) else error
            raise MillError(f"{self.places.root}/{place.name} cannot be read: {why}") from error

    def schema(self) -> pa.Schema:
        """The columns of the first file.

        Raises:
            MillError: there is none, or it cannot be read.
        """
        return next(self._schemas())

    def _schemas(self) -> Iterator[pa.Schema]:
        with LayoutCheck(check_file) as check:
            for place in self.places.find():
                with self._looked_at(place, check), closing(self.open(place.name)) as parquet:
                    yield parquet.schema_arrow

    def _rows(self, place: Place) -> Iterator[Source]:
        with closing(self.open(place.name)) as parquet:
            layout = layout_of(parquet.schema_arrow, self.columns, parquet.name)
            number = 0
            for group in range(parquet.metadata.num_row_groups):
                for row, said in enumerate(_listed(parquet, group, layout)):
                    source = named(_name(said, layout) or f"{place.name}/{number}")
                    if layout.status and not source.fault and said["status"] != SUCCESS:
                        source = refused(source, *refusal(said["status"], said["error_message"]))
                    yield source._replace(locator=f"{group}+{row} @{place.name}", etag=place.mark)
                    number += 1

    def open(self, name: str) -> ShardFile:
        """A file, open for reading.

        Raises:
            OSError: it cannot be read.
            MillError: it is no Parquet file.
        """
        return ShardFile(self.places.open(name), BUFFER)

    def kept_types(self) -> Mapping[str, str]:
        """The types of the columns in the first file that has each; see :meth:`Corpus.kept_types`."""
        if not self.columns.kept:
            return {}
        types, lacking = dict[str, str](), set(self.columns.names)
        for schema in self._schemas():
            found = lacking.intersection(layout_of(schema, self.columns, self.address).kept)
            types |= {name: kept_type(schema.field(name)) for name in found}
            lacking -= found
            if not lacking:
                break
        check_columns(schema, lacking, self.address)
        return types

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
        return parquet, layout_of(parquet.schema_arrow, self.columns, parquet.name)


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
    name = below(said.get(layout.path or "") or "")
    if name and layout.path in ("key", "__key__") and "." not in name:
        ending = layout.picture if f".{layout.picture.lower()}" in picture_endings() else "jpg"
        return f"{name}.{ending}"
    return name or None
