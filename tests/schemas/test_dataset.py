"""The dataset folder: how a file is committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.tables import REJECTED

INGEST = {"resolution": 64, "fit": "crop", "limits": {"max_pixels": 1000, "max_bytes": 1000, "min_side": 1}}
PROVENANCE = {"table": "rejected", "kind": "rejected"}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """An empty one."""
    return Dataset.create(tmp_path / "dataset", {**INGEST, "white": None}, 8)


def _row(source: str) -> dict[str, str | None]:
    return {"source": source, "reason": "missing", "error": "gone", "detail": None}


def test_a_file_is_committed_where_its_block_ends(dataset: Dataset) -> None:
    with dataset.committing("run", "rejected", 3, REJECTED, PROVENANCE) as writer:
        writer.write_group([_row("a.png")])
        assert not dataset.has("rejected", 3)
        writer.close({"reasons": {"missing": 1}})
    footer = dataset.footer("rejected", 3)
    assert footer.provenance == {**PROVENANCE, "shard": 3}
    assert (footer.rows, footer.summary) == (1, {"reasons": {"missing": 1}})


def test_nothing_is_committed_or_left_where_the_block_raises(dataset: Dataset) -> None:
    with pytest.raises(RuntimeError), dataset.committing("run", "rejected", 0, REJECTED, PROVENANCE) as writer:
        writer.write_group([_row("a.png")])
        writer.close({})
        raise RuntimeError
    assert not dataset.has("rejected", 0)
    assert not dataset.storage.files("_run/run/scratch")


def test_the_first_of_two_commits_stays(dataset: Dataset) -> None:
    for source in ("first.png", "second.png"):
        with dataset.committing("run", "rejected", 0, REJECTED, PROVENANCE) as writer:
            writer.write_group([_row(source)])
    with dataset.parquet("rejected", 0) as parquet:
        assert [row["source"] for row in read_rows(parquet, ["source"])] == ["first.png"]
