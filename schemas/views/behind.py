"""Tables that lack the shards which were appended since, and the command that makes these."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ..dataset import Dataset
from ..tables import CACHES, EMBEDDINGS, MEASURED, TABLES


def behind(dataset: Dataset) -> list[str]:
    """Tables of conditions, captions, caches and features that were complete before the dataset grew."""
    tables = [*dataset.condition_tables(), *(table for table in dataset.tables() if table in (*CACHES, *MEASURED))]
    return [table for table in tables if dataset.state(table).status == "behind"]


def behind_lines(dataset: Dataset, tables: Sequence[str] | None = None) -> list[str]:
    """A line for each command that brings tables up to date; ``tables``: of these, else of all."""
    address = shlex.quote(dataset.storage.address)
    commands: dict[str, list[str]] = {}
    for table in behind(dataset) if tables is None else tables:
        commands.setdefault(_command(dataset, table, address), []).append(table)
    return [
        f"behind, because pictures were added since: {', '.join(names)}; bring up to date with: {command}"
        for command, names in commands.items()
    ]


def _command(dataset: Dataset, table: str, address: str) -> str:
    index = dataset.index(table)
    assert index is not None
    made = index.provenance
    if made.encoder:
        options = [
            *(["--text"] if table == EMBEDDINGS else []),
            *(["--flip"] if made.mirrored else []),
            *(["--half"] if made.encoder.stored == "fp16" else []),
        ]
        return f"controlmill encode {address} {' '.join(['--base BASE', *options])}"
    if made.features:
        return f"controlmill evaluate RUN {address} RESULTS, with a measure that takes them"
    if made.made_by.layout:
        named = f" --table {table}" if table not in TABLES else ""
        layout = shlex.quote(made.made_by.layout)  # a dataset of anybody may say anything
        return f"controlmill labels {address} KIND PLACE --layout {layout}{named}, as they came in first"
    if made.made_by.is_imported:
        return f"controlmill annotate {address} --conditions-from FOLDER, with the options of the first import"
    if made.made_by.variant == "files":
        return f"controlmill annotate {address} --captions-from FOLDER"
    return f"controlmill annotate {address}"
