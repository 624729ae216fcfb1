"""The kinds of map: what decides a map's codec, its array and how it may be resized."""

from __future__ import annotations

from typing import Literal

Kind = Literal["binary", "gray8", "gray16", "rgb", "labels", "text"]

KINDS: tuple[Kind, ...] = ("binary", "gray8", "gray16", "rgb", "labels")  # of maps; captions are text
KEPT_TYPES = (  # Arrow types of columns that images keep from where they come from; lists of these, too
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "string"),
)
