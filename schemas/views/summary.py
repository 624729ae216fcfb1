"""A dataset as plain values, for other programs: what ``inspect --json`` and ``verify --json`` print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..dataset import VERSION, Dataset
from ..files.documents import plain
from ..records import CaptionCounts
from ..retries import refused_pictures
from ..tables import IMAGES, SOURCES

if TYPE_CHECKING:
    from .row_faults import Fault


def dataset_summary(dataset: Dataset) -> dict[str, Any]:
    """What is there and how it was made.

    Returns:
        ``address``; ``version`` of the schema; ``shards`` and ``listed`` (pictures); ``ingest``, the settings;
        ``captions``, with ``given`` and ``unread``; ``segments``, as in dataset.json, with what a listing passed over;
        ``tables``, a list in the design's order. A table has ``table``, ``status`` (complete, stale, behind or
        partial), ``committed`` (shards), ``rows``, ``bytes``, ``empty`` (maps without anything), ``refused`` (reason →
        rows; of images the files that became none) and ``provenance`` (null while it is not complete).
    """
    images = dataset.index(IMAGES)
    captions = images.captions if images else CaptionCounts(0, 0)
    return {
        "address": dataset.storage.address,
        "version": VERSION,
        "shards": dataset.shards,
        "listed": dataset.config.rows,
        "ingest": plain(dataset.config.ingest),
        "captions": plain(captions),
        "segments": plain(dataset.config)["segments"],
        "tables": [_table(dataset, name) for name in dataset.tables() if name != SOURCES],
    }


def _table(dataset: Dataset, name: str) -> dict[str, Any]:
    state = dataset.state(name)
    reasons = refused_pictures(dataset) if name == IMAGES else state.reasons
    return {
        "table": name,
        "status": state.status,
        "committed": state.committed,
        "rows": state.rows,
        "bytes": state.bytes,
        "empty": state.empty or 0,
        "refused": dict(sorted(reasons.items())),
        "provenance": plain(state.index.provenance) if state.index else None,
    }


def verify_summary(dataset: Dataset, faults: Iterable[Fault]) -> dict[str, Any]:
    """``faults``, each with ``promise``, ``where`` and ``found``; how many ``tables`` and ``shards`` were looked at."""
    said = [{"promise": fault.promise, "where": fault.where, "found": fault.found} for fault in faults]
    return {"faults": said, "tables": len(dataset.tables()), "shards": dataset.shards}
