"""One Parquet file: the same bytes in every process, small footers, readable when empty."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import differences, row_key, row_seed, sha256_file
from controlmill.schemas.shardfile import ShardWriter, open_parquet, read_footer, read_rows
from controlmill.schemas.tables import IMAGES, condition_schema

CANNY = condition_schema(CONDITIONS["canny"], {"low": "int32", "scores": "list<float>"})

WRITE = """
import sys
from pathlib import Path
from tests.schemas.test_shardfile import write
write(Path(sys.argv[1]))
"""

READ = """
import os, sys
from pathlib import Path
from controlmill.schemas.shardfile import open_parquet, read_rows
before = len(os.listdir("/proc/self/task"))
with Path(sys.argv[1]).open("rb") as file:
    assert len(list(read_rows(open_parquet(file)))) == 15
assert len(os.listdir("/proc/self/task")) == before
"""


def write(path: Path, groups: int = 3) -> None:
    with ShardWriter(
        path, CANNY, {"table": "canny", "shard": 7, "images_sha256": "ab" * 32, "kind": "binary"}
    ) as writer:
        for group in range(groups):
            writer.write_group(
                [
                    {
                        "key": f"{group}{row}",
                        "map": {"bytes": bytes([group, row]) * 3000, "path": "x.png"} if row else None,
                        "reason": None if row else "failed",
                        "low": row,
                        "scores": [0.5] * row,
                    }
                    for row in range(5)
                ]
            )
        writer.close({"reasons": {"failed": groups}})


def test_the_bytes_are_the_same_in_every_process(tmp_path: Path) -> None:
    write(tmp_path / "here")
    for seed in ("0", "1"):
        subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path / "there")],
            env={
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": ":".join(sys.path),
                "ARROW_DEFAULT_MEMORY_POOL": "system",
            },
            check=True,
        )
        assert sha256_file(tmp_path / "there") == sha256_file(tmp_path / "here")


def test_the_footer_says_how_the_file_was_made(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with (tmp_path / "file").open("rb") as file:
        footer = read_footer(file)
    assert footer.groups == (5, 5, 5)
    assert footer.rows == 15
    assert footer.shared == {"table": "canny", "kind": "binary"}
    assert footer.images_sha256 == "ab" * 32
    assert footer.summary == {"reasons": {"failed": 3}}


def test_pictures_are_plain_and_have_no_statistics(tmp_path: Path) -> None:
    write(tmp_path / "file")
    metadata = pq.read_metadata(tmp_path / "file")
    columns = {metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i) for i in range(7)}
    picture = columns["map.bytes"]
    assert (picture.compression, picture.statistics) == ("UNCOMPRESSED", None)
    assert "RLE_DICTIONARY" not in picture.encodings
    assert columns["low"].statistics.max == 4
    assert columns["key"].statistics.min == "00"
    assert metadata.serialized_size < 6000


def test_a_file_without_rows_is_read_as_a_table(tmp_path: Path) -> None:
    write(tmp_path / "file", groups=0)
    assert pq.read_table(tmp_path / "file").num_rows == 0
    with ShardWriter(tmp_path / "empty", IMAGES, {}) as writer:
        writer.write_group([])
        writer.close()
    assert pq.ParquetFile(tmp_path / "empty").metadata.num_row_groups == 0


def test_rows_are_read_a_group_at_a_time(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with (tmp_path / "file").open("rb") as file:
        found = list(read_rows(open_parquet(file), ["key", "reason"]))
    assert found[5] == {"key": "10", "reason": "failed"}
    assert len(found) == 15


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux shows them")
def test_reading_leaves_no_thread_behind_that_could_abort_the_end_of_a_process(tmp_path: Path) -> None:
    write(tmp_path / "file")
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", READ, str(tmp_path / "file")], env=environment, check=True)


def test_another_parquet_file_is_not_taken_for_ours(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "file")
    with (
        (tmp_path / "file").open("rb") as file,
        pytest.raises(MillError, match=r"file is damaged .*no ControlMill prov"),
    ):
        read_footer(file)


def test_keys_and_seeds_depend_on_address_and_content_alone() -> None:
    key = row_key("a/b.jpg", "00ff")
    assert key == row_key("a/b.jpg", "00ff")
    assert len({key, row_key("a/c.jpg", "00ff"), row_key("a/b.jpg", "00fe")}) == 3
    assert row_seed(key, "canny") != row_seed(key, "scribble")
    assert 0 <= row_seed(key, "canny") < 2**64


def test_differences_are_named() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [1], "e": {}}) == [
        "a.c: 2, now 3",
        "e: (nothing), now {}",
    ]
