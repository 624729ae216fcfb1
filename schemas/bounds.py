"""Bounded types for the fields of records that are read from files of elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from .kinds import KEPT_TYPES

MAX_DEPTH = 32  # of values whose names are free
MAX_SHARD_ROWS = 100_000
MAX_SHARDS = 200_000  # of a dataset: the index of a table stays below documents.MAX_BYTES, whatever was refused
MAX_NUMBER = 2**63


def _check_free(value: Any) -> Any:
    level = [value]
    for _ in range(MAX_DEPTH):
        for item in level:
            if isinstance(item, int | float) and not abs(item) <= MAX_NUMBER:  # NaN is not either
                raise ValueError("a number is too large")
        parents = [item for item in level if isinstance(item, dict | list)]
        level = [item for parent in parents for item in (parent.values() if isinstance(parent, dict) else parent)]
        if not level:
            return value
    raise ValueError("nested too deep")


Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
Rows = Annotated[int, Field(ge=0, le=MAX_SHARD_ROWS)]
ShardSize = Annotated[int, Field(ge=1, le=MAX_SHARD_ROWS)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Word = Annotated[str, Field(pattern="^[A-Za-z0-9_.:=-]{1,64}$")]  # what cards quote
Colour = Annotated[str, Field(pattern="^[0-9a-f]{6}$")]
Pixel = Annotated[int, Field(ge=0, le=65535)]
KeptType = Annotated[str, Field(pattern=f"^(list<)?({'|'.join(KEPT_TYPES)})>?$")]
Free = Annotated[dict[str, Any], AfterValidator(_check_free)]
