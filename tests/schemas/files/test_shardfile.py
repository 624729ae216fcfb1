"""One Parquet file: the same bytes in every process, small footers, readable when empty."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.layout import check_layout
from controlmill.schemas.files.shardfile import ShardFile, ShardWriter, read_footer, read_rows, read_table
from controlmill.schemas.fingerprint import differences, row_key, row_seed, sha256_file
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.records import Summary
from controlmill.schemas.tables import TABLES, condition_schema

CANNY = condition_schema(CONDITIONS["canny"], {"low": "int32", "scores": "list<float>"})

WRITE = """
import sys
from pathlib import Path
from tests.schemas.files.test_shardfile import write
write(Path(sys.argv[1]))
"""

READ = """
import os, sys
from pathlib import Path
from controlmill.schemas.files.shardfile import ShardFile, read_rows
before = len(os.listdir("/proc/self/task"))
with Path(sys.argv[1]).open("rb") as file:
    assert len(list(read_rows(ShardFile(file)))) == 15
assert len(os.listdir("/proc/self/task")) == before
"""

MADE = Provenance("canny", "binary", annotator=AnnotatorRecord("canny", "random", 1))


def write(path: Path, groups: int = 3) -> None:
    with ShardWriter(path, CANNY, replace(MADE, shard=7, images_sha256="ab" * 32)) as writer:
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
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": ":".join(sys.path),
                "ARROW_DEFAULT_MEMORY_POOL": "system",
            },
            check=True,
        )
        assert sha256_file(tmp_path / "there") == sha256_file(tmp_path / "here")


def test_the_bytes_do_not_depend_on_how_rows_lie_in_memory(tmp_path: Path) -> None:
    """Arrow would end a page where a chunk of memory ends."""
    parts = [
        pa.Table.from_pylist([{"key": f"{row}", "map": {"bytes": bytes([row]) * 70_000}, "low": row}], schema=CANNY)
        for row in range(40)
    ]
    for name, table in {"many": pa.concat_tables(parts), "one": pa.concat_tables(parts).combine_chunks()}.items():
        with ShardWriter(tmp_path / name, CANNY, {}) as writer:
            writer.write_table(table.cast(writer.schema))
    assert sha256_file(tmp_path / "many") == sha256_file(tmp_path / "one")


def test_the_footer_says_how_the_file_was_made(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with (tmp_path / "file").open("rb") as file:
        footer = read_footer(file)
    assert footer.groups == (5, 5, 5)
    assert footer.rows == 15
    assert footer.provenance.shared == MADE
    assert footer.provenance.images_sha256 == "ab" * 32
    assert footer.summary == Summary({"failed": 3})


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
    with ShardWriter(tmp_path / "empty", TABLES["images"].schema, {}) as writer:
        writer.write_group([])
        writer.close()
    assert pq.ParquetFile(tmp_path / "empty").metadata.num_row_groups == 0


def test_rows_are_read_a_group_at_a_time(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with (tmp_path / "file").open("rb") as file:
        found = list(read_rows(ShardFile(file), ["key", "reason"]))
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


class Named(io.BytesIO):
    """A file in memory."""

    name = "some/00000007.parquet"


def test_a_flipped_bit_is_an_error_with_the_file_s_name_or_is_not_read(tmp_path: Path) -> None:
    """Pages have checksums; their headers and the footer have none, there another value may be read."""
    write(tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    whole = list(read_rows(ShardFile(Named(data))))
    sound = 0
    for at in range(0, len(data), 61):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        try:
            parquet = ShardFile(Named(bytes(damaged)))
            read_footer(parquet)
            sound += list(read_rows(parquet)) == whole
        except MillError as error:
            assert "some/00000007.parquet" in str(error)
            sound += 1
    assert sound > 0.97 * len(range(0, len(data), 61))


def test_a_text_that_is_not_utf8_and_a_column_that_is_not_there_are_errors_with_the_file_s_name() -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"key": bad}), file := Named(), store_schema=False)
    for columns, said in ((["key"], "UTF8"), (["map.bytes"], "no column map")):
        with pytest.raises(MillError, match=f"^some/00000007.parquet is damaged .*{said}"):
            list(read_rows(ShardFile(file), columns))
        with pytest.raises(MillError, match=f"^some/00000007.parquet is damaged .*{said}"):
            read_table(ShardFile(file), columns)


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ({"key": [None] * 3_000_000}, {}, "row group 0 says that it has 1048576 rows"),
        ({"key": ["x"]}, {"compression": "ZSTD"}, "key in row group 0 is compressed by ZSTD"),
        ({"key": ["x" * 200_000] * 64}, {}, "key in row group 0 has a dictionary of"),
        ({"reason": ["x" * 9_000_000, "y"]}, {"use_dictionary": True}, "reason in row group 0 has a dictionary of"),
    ],
)
def test_what_unfolds_beyond_what_is_written_here_is_seen_in_the_footer(
    table: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    pq.write_table(
        pa.table({name: pa.array(values, pa.string()) for name, values in table.items()}), file := Named(), **options
    )
    size = len(file.getvalue())
    assert size < 1_000_000
    with pytest.raises(MillError, match=f"^some/00000007.parquet is damaged .{said}"):
        check_layout(ShardFile(file))


def test_a_list_of_millions_of_nulls_is_seen_in_the_footer() -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 5_000_000], pa.int32()), pa.nulls(5_000_000, pa.int32()))
    pq.write_table(pa.table({"shape": lists}), file := Named(), use_dictionary=False)
    assert len(file.getvalue()) < 1_000_000
    with pytest.raises(MillError, match=r"says that it unfolds to .* 5000000 values"):
        check_layout(ShardFile(file))


def test_a_footer_that_claims_to_be_huge_is_not_read() -> None:
    with pytest.raises(MillError, match="its footer says that it has 4294967295 bytes"):
        ShardFile(Named(b"PAR1" + bytes(100) + b"\xff\xff\xff\xffPAR1"))


def test_a_file_that_came_in_part_is_told_as_that() -> None:
    pq.write_table(pa.table({"key": ["x"] * 1000}), file := Named())
    with pytest.raises(MillError, match=r"^some/00000007.parquet is damaged .it does not end as a Parquet file does"):
        ShardFile(Named(file.getvalue()[:-100]))


@pytest.mark.parametrize(
    "text", [b"[]", b"null", b'"x"', b"{}", b"[" * 100_000, b'{"table": "canny", "kind": 3}', b"\xff"]
)
def test_a_footer_s_json_of_another_shape_is_an_error_with_the_file_s_name(text: bytes) -> None:
    for key, said in ((b"controlmill", text), (b"controlmill_summary", b'{"reasons": []}')):
        metadata = {b"controlmill": json.dumps(plain(MADE)).encode(), key: said}
        pq.write_table(pa.table({"key": ["x"]}).replace_schema_metadata(metadata), file := Named())
        with pytest.raises(MillError, match=r"^some/00000007.parquet is damaged"):
            read_footer(ShardFile(file))


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
    assert differences({}, {"image column": "jpg"}) == ["image column: (nothing), now jpg"]
    assert differences({"columns": {}}, {}) == ["columns: {}, now (nothing)"]
