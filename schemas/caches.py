"""Caches for training: what a base's encoders say of each row, so that no step has to ask them again.

A row holds *arrays* by the names that the base gives them; the columns of a table say which: an array is its bytes in
the column of its name. Its shape is in the column ``shape`` where it is the first of its table, else in ``NAME_shape``.
In ``latents`` each has a partner, that of the mirrored picture: ``mirrored``, or ``NAME_mirrored``.

Nothing random is stored. ``latents`` of Stable Diffusion hold the *moments* of the VAE's posterior, of which each step
draws its own sample, and apart from them those of the mirrored picture (the VAE of a mirrored picture is not its
mirrored latent). ``embeddings`` hold what text encoders make of the caption; a row without one has nulls, which stand
for the empty prompt, as a dropped prompt does: dropping is done by the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .tables import EMBEDDINGS, LATENTS, TABLES

DTYPES = {"fp32": "<f4", "fp16": "<f2"}
SHAPE, MIRRORED = "shape", "mirrored"
USUAL = {LATENTS: "moments", EMBEDDINGS: "embedding"}  # the one array of a table of Stable Diffusion


def cache_schema(table: str, arrays: Sequence[str]) -> pa.Schema:
    """Columns of a cache that has these arrays."""
    first, *others = arrays
    fields = [pa.field(name, pa.binary()) for name in arrays]
    fields += [pa.field(_beside(SHAPE, name), pa.list_(pa.int32())) for name in others]
    if table == LATENTS:
        fields += [pa.field(mirrored_column(arrays, name), pa.binary()) for name in (first, *others)]
    return pa.schema([*TABLES[table].schema, *fields])


def arrays_of(table: str, schema: pa.Schema) -> tuple[str, ...]:
    """The arrays that a file of a cache has, by its columns; the usual one where it has none."""
    found = [column.name for column in schema if pa.types.is_binary(column.type)]
    return tuple(name for name in found if not name.endswith(MIRRORED)) or (USUAL[table],)


def shape_column(arrays: Sequence[str], name: str) -> str:
    """The column with the shape of an array."""
    return SHAPE if name == arrays[0] else _beside(SHAPE, name)


def mirrored_column(arrays: Sequence[str], name: str) -> str:
    """The column with an array of the mirrored picture."""
    return MIRRORED if name == arrays[0] else _beside(MIRRORED, name)


def _beside(kind: str, name: str) -> str:
    return f"{name}_{kind}"


def columns_of(arrays: Sequence[str], mirrored: bool = False) -> list[str]:
    """The columns that :func:`unpacked` needs for arrays of the picture, or for those of the mirrored one too."""
    shapes = [shape_column(arrays, name) for name in arrays]
    return [*arrays, *shapes, *([mirrored_column(arrays, name) for name in arrays] if mirrored else [])]


def packed(
    row: Mapping[str, np.ndarray], stored: str, mirrored: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """The columns of a row.

    Args:
        row: arrays by name, of one picture or caption.
        stored: fp32 or fp16.
        mirrored: those of the mirrored picture.

    Raises:
        ValueError: see :func:`pack`.
    """
    arrays = tuple(row)
    columns: dict[str, Any] = {name: pack(array, stored) for name, array in row.items()}
    columns |= {shape_column(arrays, name): list(array.shape) for name, array in row.items()}
    return columns | {mirrored_column(arrays, name): pack(array, stored) for name, array in (mirrored or {}).items()}


def unpacked(
    row: Mapping[str, Any], arrays: Sequence[str], stored: str, mirrored: bool
) -> dict[str, np.ndarray] | None:
    """What a row holds, as float32: of the picture or caption, or of the mirrored picture; None where it is null.

    Raises:
        ValueError: the bytes are not of their shape.
    """
    columns = {name: mirrored_column(arrays, name) if mirrored else name for name in arrays}
    if any(row[column] is None for column in columns.values()):
        return None
    return {name: unpack(row[column], row[shape_column(arrays, name)], stored) for name, column in columns.items()}


def pack(array: np.ndarray, stored: str) -> bytes:
    """Values in C order, little-endian; ``stored`` is fp32 or fp16.

    Raises:
        ValueError: a value is infinite, no number, or too large for fp16.
    """
    with np.errstate(over="ignore"):
        values = array.astype(DTYPES[stored])
    if not np.isfinite(values).all():
        raise ValueError(f"the encoder's values are not finite in {stored}")
    return values.tobytes()


def unpack(data: bytes, shape: list[int], stored: str) -> np.ndarray:
    """What :func:`pack` was given, as float32.

    Raises:
        ValueError: the bytes are not of that shape.
    """
    return np.frombuffer(data, DTYPES[stored]).reshape(shape).astype(np.float32)


def fault(table: str, row: Mapping[str, Any], arrays: Sequence[str], stored: str) -> str | None:
    """What is wrong with a row of a cache, if anything; ``row`` has its reason and :func:`columns_of` the arrays."""
    if row[arrays[0]] is None:
        return f"has no {arrays[0]} and no reason" if table == LATENTS and not row["reason"] else None
    wrong = []
    for name in arrays:
        size = int(np.prod(row[shape_column(arrays, name)] or [0])) * np.dtype(DTYPES[stored]).itemsize
        columns = [name, *([mirrored_column(arrays, name)] if table == LATENTS else [])]
        found = [column for column in columns if row[column] is not None and len(row[column]) != size]
        wrong += [f"{', '.join(found)}: not {size} bytes, as its shape says"] if found else []
    return "; ".join(wrong) or None
