"""The files of tables: how one is committed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.records import Summary
from controlmill.schemas.table_files import TableFiles
from controlmill.schemas.tables import REJECTED, TABLES

PROVENANCE = {"table": "rejected", "kind": "rejected"}
SCHEMA = TABLES[REJECTED].schema


@pytest.fixture
def files(tmp_path: Path) -> TableFiles:
    """None yet, of a dataset in which a run may write some."""
    (tmp_path / "_run/run/scratch").mkdir(parents=True)
    (tmp_path / "dataset.json").write_text("{}")
    return TableFiles(open_storage(tmp_path))


def _row(source: str) -> dict[str, str | None]:
    return {"source": source, "reason": "missing", "error": "gone", "detail": None}


def test_a_file_is_committed_where_its_block_ends(files: TableFiles) -> None:
    with files.committing("run", REJECTED, 3, SCHEMA, PROVENANCE) as writer:
        writer.write_group([_row("a.png")])
        assert not files.has("rejected", 3)
        writer.close({"reasons": {"missing": 1}})
    footer = files.footer("rejected", 3)
    assert footer.provenance == Provenance(REJECTED, "rejected", shard=3)
    assert (footer.rows, footer.summary) == (1, Summary({"missing": 1}))


def test_nothing_is_committed_or_left_where_the_block_raises(files: TableFiles) -> None:
    with pytest.raises(RuntimeError), files.committing("run", REJECTED, 0, SCHEMA, PROVENANCE) as writer:
        writer.write_group([_row("a.png")])
        writer.close({})
        raise RuntimeError
    assert not files.has("rejected", 0)
    assert not files.storage.files("_run/run/scratch")


def test_the_first_of_two_commits_stays(files: TableFiles) -> None:
    for source in ("first.png", "second.png"):
        with files.committing("run", REJECTED, 0, SCHEMA, PROVENANCE) as writer:
            writer.write_group([_row(source)])
    with files.parquet("rejected", 0) as parquet:
        assert [row["source"] for row in read_rows(parquet, ["source"])] == ["first.png"]


def test_a_table_was_begun_as_the_first_file_says_that_can_be_read(files: TableFiles) -> None:
    assert files.begun_with(REJECTED) is None
    for shard in (2, 5, 7):
        with files.committing("run", REJECTED, shard, SCHEMA, PROVENANCE) as writer:
            writer.close({})
    for shard, begun in ((2, 5), (5, 7), (7, None)):
        os.truncate(files.storage.path(files.file(REJECTED, shard)), 3)
        made = files.begun_with(REJECTED)
        assert (made.shard if made else None) == begun
