"""Where a Parquet file from elsewhere has its pictures, names and captions; and whether its footer can be true."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import ShardFile, naming
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.kinds import KEPT_TYPES

from .captions import caption_keys
from .columns import Columns
from .img2dataset import STATUS

BUFFER = 1024 * 1024  # bytes of a column that are read at a time
PICTURES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture", "photo", "bytes")  # of several, the first there is
NAMES = ("file_name", "filename", "file_path", "path", "__key__", "key")  # beside a column without paths
MAX_GROUPS = 1_000_000
MAX_ROWS = 2**40
MAX_EXPANSION = 1000  # of a column that is compressed, where it is not small
SMALL = 64 * 1024 * 1024  # bytes of a column, which may all be the same


@dataclass(frozen=True)
class Layout:
    """Where a file has what is read of it, as paths of columns (``image.bytes``)."""

    picture: str
    path: str | None
    caption: str | None
    status: bool
    kept: tuple[str, ...]

    @property
    def listed(self) -> list[str]:
        """The columns that a listing reads."""
        return [*([self.path] if self.path else []), *(STATUS if self.status else ())]

    @property
    def read(self) -> list[str]:
        """The columns that a worker reads."""
        return [self.picture, *dict.fromkeys([*([self.caption] if self.caption else []), *self.kept])]


def layout_of(schema: pa.Schema, chosen: Columns, file: str) -> Layout:
    """Where a file of these columns has what is read of it; errors name the ``file``.

    Raises:
        MillError: it has no picture, or not the chosen columns of pictures and captions.
    """
    check_columns(schema, [chosen.caption] if chosen.caption else [], file)
    picture = _picture(schema, file, chosen.image)
    texts = [field.name for field in schema if is_text(field.type)]
    has_path = pa.types.is_struct(picture.type) and any(
        part.name == "path" and is_text(part.type) for part in picture.type
    )
    path = f"{picture.name}.path" if has_path else next((name for name in NAMES if name in texts), None)
    captions = caption_keys(dict.fromkeys(schema.names)) + [name for name in ("txt",) if name in texts]
    caption = chosen.caption or next(iter(captions), None)
    kept = tuple(name for name in chosen.names if name in schema.names)
    for name in (*([caption] if caption else []), *kept):
        _column(schema, name, file)
    return Layout(
        f"{picture.name}.bytes" if pa.types.is_struct(picture.type) else picture.name,
        path,
        caption,
        set(texts).issuperset(STATUS),
        kept,
    )


def check_columns(schema: pa.Schema, wanted: Iterable[str], file: str) -> None:
    """Raise MillError where a file lacks columns."""
    lacking = sorted(set(wanted) - set(schema.names))
    if lacking:
        raise MillError(f"{file}: no column {', '.join(lacking)}; {_columns(schema)}")


def _picture(schema: pa.Schema, file: str, chosen: str | None) -> pa.Field:
    """The column of the pictures."""
    pictures = [field.name for field in schema if is_picture(field.type)]
    known = [chosen] if chosen else [column for column in PICTURES if column in pictures]
    if chosen and chosen not in pictures:
        raise MillError(f"{file}: --image-column {chosen} is no column of pictures; {_columns(schema)}")
    if not pictures:
        raise MillError(f"{file}: no column holds the bytes of pictures; {_columns(schema)}")
    if len(pictures) > 1 and not known:
        raise MillError(f"{file}: columns {', '.join(pictures)} hold bytes: choose with --image-column")
    return _column(schema, (known or pictures)[0], file)


def _column(schema: pa.Schema, name: str, file: str) -> pa.Field:
    if schema.get_field_index(name) < 0:
        raise MillError(f"{file}: several columns {name}; {_columns(schema)}")
    return schema.field(name)


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
                if not 0 <= stored <= size or not 0 <= unfolded <= max(SMALL, stored * MAX_EXPANSION):
                    raise ValueError(
                        f"{column.path_in_schema} in row group {number} says that it has {stored} bytes, "
                        f"which unfold to {unfolded}"
                    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_picture(kind: pa.DataType) -> bool:
    """Whether a column may hold pictures."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def kept_type(field: pa.Field) -> str:
    """The type that a column is kept as: its own, or text."""
    kind = field.type
    if _is_bytes(kind) or is_picture(kind):
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
