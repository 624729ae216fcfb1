"""Names of the files in a dataset's folder."""

from __future__ import annotations

import re

SHARDS_PER_FOLDER = 10_000
REDO = "_redo"  # where tables are made anew
GROWING = "_growing.json"  # of an extend or a retry that is under way
LOCAL = "_local.json"  # what only this machine can use; not to be published
SHARD_NAME = re.compile(r"[0-9]{8}\.parquet")
FOLDER_NAME = re.compile("[0-9]{4}")  # of shards


def shard_file(table: str, shard: int) -> str:
    """The name of a shard's file: eight digits, 10,000 to a folder."""
    return f"{table}/{shard // SHARDS_PER_FOLDER:04d}/{shard:08d}.parquet"


def index_file(table: str, redone: bool = False) -> str:
    """The name of a table's index: outside the table's folder, which then opens in any reader of Parquet.

    ``redone`` is of a table that is made anew (:mod:`redo`).
    """
    return f"{REDO}/_tables/{table}.json" if redone else f"_tables/{table}.json"
