"""The tables that a dataset can have: names, what each is for, and columns.

Schemas follow the Hugging Face conventions that `datasets`, DuckDB, Polars and the Hub read: a picture is
``struct<bytes: binary, path: string>``; the schema key ``huggingface`` names each column's feature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from .conditions import CONDITIONS, Condition

SOURCES, IMAGES, REJECTED = "sources", "images", "rejected"
CAPTIONS = "captions"
LATENTS, EMBEDDINGS = "latents", "embeddings"
SCORES, PICTURE_SCORES = "scores", "picture_scores"
INCEPTION, CLIP, CLIP_336, CLIP_TEXT, LPIPS = "inception", "clip", "clip_336", "clip_text", "lpips"

TRUE = "true_"  # before the name of a table of features: those of the rows that results were made for
OF_ROWS = {f"{TRUE}{table}": table for table in (INCEPTION, CLIP_336, CLIP_TEXT)}

Role = Literal["base", "condition", "cache", "measure"]


@dataclass(frozen=True)
class Table:
    """A table that a dataset can have.

    Args:
        name: of its folder.
        role: ``base``: what ingest makes. ``condition``: aligned with the images, maps or captions. ``cache``: aligned
            with the images, what a base's encoders make of them, for training. ``measure``: aligned with the images,
            numbers that say something of them, for comparisons.
        summary: what it is, in a line.
        schema: its columns; a condition's table has those of its annotator too, a cache's the arrays of its base
            (:mod:`caches`).
    """

    name: str
    role: Role
    summary: str
    schema: pa.Schema


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

_SOURCES = pa.schema(
    [
        ("source", pa.string()),
        ("locator", pa.string()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("caption", pa.string()),
        ("texts", pa.string()),
        ("columns", pa.string()),
        ("reason", pa.string()),
        ("fault", pa.string()),
        ("retries_shard", pa.int32()),
        ("retries_row", pa.int32()),
    ]
)

_IMAGES = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("image", IMAGE),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("crop_x", pa.int32()),
        ("crop_y", pa.int32()),
        ("crop_w", pa.int32()),
        ("crop_h", pa.int32()),
        ("sha256", pa.string()),
        ("several", pa.bool_()),
        ("caption", pa.string()),
        ("caption_error", pa.string()),
    ]
)

_REJECTED = pa.schema(
    [("source", pa.string()), ("reason", pa.string()), ("error", pa.string()), ("detail", pa.string())]
)

_MEASURE = pa.schema([("key", pa.string()), ("reason", pa.string()), ("error", pa.string())])

_FEATURES = pa.schema([*_MEASURE, ("features", pa.list_(pa.float32()))])

_CACHE = pa.schema(
    [("key", pa.string()), ("reason", pa.string()), ("error", pa.string()), ("shape", pa.list_(pa.int32()))]
)

HUGGINGFACE_NAMES = {"float": "float32", "double": "float64", "halffloat": "float16"}


def condition_schema(condition: Condition, columns: Mapping[str, str]) -> pa.Schema:
    """Schema of a condition's table: key, map (or caption), reason, error, then ``columns`` (name → Arrow type).

    Beside a map is its ``coverage``, the share of it that says something (:func:`maps.coverage`).
    """
    value = pa.field("caption", pa.string()) if condition.kind == "text" else pa.field("map", IMAGE)
    head = [pa.field("key", pa.string()), value, pa.field("reason", pa.string()), pa.field("error", pa.string())]
    if condition.kind != "text":
        head.append(pa.field("coverage", pa.float32()))
    return pa.schema([*head, *(pa.field(name, arrow_type(kind)) for name, kind in columns.items())])


def images_schema(kept: Mapping[str, str]) -> pa.Schema:
    """Schema of the images, with columns that were kept from where they come from (name → Arrow type)."""
    return pa.schema([*_IMAGES, *(pa.field(name, arrow_type(kind)) for name, kind in kept.items())])


def scores_schema(measures: Sequence[str]) -> pa.Schema:
    """Schema of tables of scores: key, reason, error, then a number for each measure; null where a picture has none."""
    return pa.schema([*_MEASURE, *(pa.field(name, pa.float64()) for name in measures)])


def arrow_type(name: str) -> pa.DataType:
    """``int32``, ``float32``… or ``list<float32>``."""
    if name.startswith("list<") and name.endswith(">"):
        return pa.list_(arrow_type(name[5:-1]))
    return pa.type_for_alias(name)


def is_image(field: pa.Field) -> bool:
    """Whether a column holds pictures."""
    return bool(field.type == IMAGE)


def _feature(field: pa.Field) -> dict[str, Any]:
    if is_image(field):
        return {"_type": "Image"}
    if pa.types.is_list(field.type):
        return {"_type": "List", "feature": _feature(field.type.value_field)}
    return {"dtype": HUGGINGFACE_NAMES.get(str(field.type), str(field.type)), "_type": "Value"}


def with_metadata(schema: pa.Schema, provenance: str) -> pa.Schema:
    """The schema with the ``huggingface`` features and ``controlmill`` provenance (canonical JSON) in its metadata."""
    features = {field.name: _feature(field) for field in schema}
    return schema.with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}}), "controlmill": provenance}
    )


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(SOURCES, "base", "what was listed", _SOURCES),
        Table(IMAGES, "base", "the pictures, final: oriented, sRGB, RGB, fitted", _IMAGES),
        Table(REJECTED, "base", "what ingest refused, and why", _REJECTED),
        *(Table(known.table, "condition", known.summary, condition_schema(known, {})) for known in CONDITIONS.values()),
        Table(LATENTS, "cache", "for training: moments of a VAE's posterior", _CACHE),
        Table(EMBEDDINGS, "cache", "for training: captions through a text encoder; null is the empty prompt", _CACHE),
        Table(SCORES, "measure", "of results: how well each picture does by each measure of maps", _MEASURE),
        Table(PICTURE_SCORES, "measure", "of results: scores of each picture that look at no map", _MEASURE),
        Table(INCEPTION, "measure", "for FID: features of the pictures by its InceptionV3", _FEATURES),
        Table(CLIP, "measure", "CLIP's embeddings of the pictures", _FEATURES),
        Table(CLIP_336, "measure", "for CMMD: embeddings of the pictures by CLIP at 336 pixels", _FEATURES),
        Table(CLIP_TEXT, "measure", "CLIP's embeddings of the captions", _FEATURES),
        *(
            Table(name, "measure", f"of results: {table} of the rows that they were made for, a row once", _FEATURES)
            for name, table in OF_ROWS.items()
        ),
        Table(
            LPIPS,
            "measure",
            "of results: each picture's mean LPIPS distance to the others of its row",
            pa.schema([*_MEASURE, ("distance", pa.float64())]),
        ),
    )
}
BASE_TABLES = tuple(name for name, table in TABLES.items() if table.role == "base")
CACHES = tuple(name for name, table in TABLES.items() if table.role == "cache")
MEASURED = tuple(name for name, table in TABLES.items() if table.role == "measure")
WITHOUT_CONDITION = (*BASE_TABLES, *CACHES, *MEASURED)
RESERVED = frozenset((*TABLES, "all"))  # names that no imported condition may have
