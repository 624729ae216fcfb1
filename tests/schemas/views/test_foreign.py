"""A dataset from anybody: `verify` and `inspect` name what is wrong with it, whatever it is, and stay in bounds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.__main__ import main
from controlmill.pipelines.engine.owners import require_alone, sweep
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.permissions import UMASK
from controlmill.schemas.names import index_file
from controlmill.schemas.tables import TABLES
from controlmill.schemas.terminal.printing import CONTROLS
from controlmill.training.data.loader import Loader, LoaderConfig
from controlmill.training.data.selection import check_tables, select
from tests.schemas.views.changed_datasets import edit, found, rewrite

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


def run(*words: str) -> tuple[int, str]:
    """The command line in this process: its status, and all that it says."""
    said = io.StringIO()
    with (
        mock.patch("sys.argv", ["controlmill", *words]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return int(ended.value.code or 0), said.getvalue()


def change_json(path: Path, *at: str | int, value: Any) -> None:
    said = inner = json.loads(path.read_text())
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    path.write_text(json.dumps(said))


def test_no_control_character_of_a_file_reaches_the_terminal(copy: Path) -> None:
    rewrite(copy, "images", edit(0, source=f"a{ESCAPE}\nno faults.png", key=ESCAPE))
    rows = pq.read_table(copy / "rejected/0000/00000000.parquet")
    named = rows.set_column(0, "source", pa.array([f"bad {ESCAPE}\n.jpg"] * len(rows)))
    pq.write_table(named, copy / "rejected/0000/00000000.parquet")
    change_json(copy / index_file("canny"), "provenance", "annotator", "params", value={ESCAPE: ESCAPE})
    change_json(copy / index_file("images"), "shards", 0, "reasons", value={f"[bold]{ESCAPE}": 3})
    change_json(copy / "dataset.json", "segments", 0, "passed_over", value={"other": {"files": 1, "most": {ESCAPE: 1}}})
    (copy / f"_run/{ESCAPE}".replace("\r", "")).mkdir(parents=True)
    (copy / f"odd{ESCAPE}").mkdir()
    for words in (("inspect",), ("verify",), ("verify", "--quick"), ("train", "--condition", "canny")):
        _, said = run(*words, str(copy), *(["run"] if words[0] == "train" else []))
        assert {char for char in said if unicodedata.category(char) in CONTROLS} <= {"\n"}
        assert r"\x1b]0;owned\x07" in said or words[0] == "train"
        assert "\nno faults" not in said


def test_absurd_counts_are_said_and_nothing_is_sized_by_them(copy: Path) -> None:
    segment = {"first_shard": 0, "shards": 10**12, "rows": 4 * 10**12, "shard_size": 4, "corpus": "folder"}
    change_json(copy / "dataset.json", "segments", value=[segment])
    assert ("commit", "is behind: its index has 4 shards, the dataset 1000000000000") in found(copy)
    assert run("inspect", str(copy))[0] == 0


def test_rows_that_are_said_to_be_nulls_by_the_million_are_not_read(copy: Path) -> None:
    path = copy / "rejected/0000/00000000.parquet"
    footer = pq.read_schema(path).metadata
    nulls = {field.name: pa.nulls(1_000_000, field.type) for field in TABLES["rejected"].schema}
    pq.write_table(pa.table(nulls).replace_schema_metadata(footer), path)
    assert path.stat().st_size < 100_000
    Dataset.open(copy).finish("images")
    index = copy / index_file("rejected")
    change_json(index, "shards", 0, "bytes", value=path.stat().st_size)
    assert any("row group 0 says that it has 1000000 rows" in text for _, text in found(copy))
    assert run("inspect", str(copy), "--rejects", "3")[1].count("refused None") == 3


def big_png(width: int, height: int) -> bytes:
    """A small PNG whose header says that it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("table", "column"), [("images", "image"), ("canny", "map")])
def test_a_picture_is_not_decoded_where_its_header_says_another_size(copy: Path, table: str, column: str) -> None:
    rewrite(copy, table, edit(1, **{column: {"bytes": big_png(8_000, 8_000), "path": "x.png"}}))
    said = [text for _, text in found(copy) if "cannot be decoded" in text or "8000x8000" in text]
    assert len(said) == 1
    assert "is 8000x8000, not 128x128" in said[0]
    assert run("inspect", str(copy), "--contact-sheet", str(copy.parent / "sheet.png"))[0] == 0


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "[" * 100_000, "{}"])
def test_a_malformed_file_is_a_line_with_its_name_and_the_others_are_checked(copy: Path, text: str) -> None:
    rewrite(copy, "hough", edit(1, map=None))
    (copy / index_file("canny")).write_text(text)
    said = found(copy)
    assert any("canny.json is damaged" in found for _, found in said)
    assert any("has no map and no reason" in found for _, found in said)
    status, said_here = run("inspect", str(copy))
    assert status == 1
    assert "canny.json is damaged" in said_here.splitlines()[-1]


def test_columns_of_another_kind_are_named(copy: Path) -> None:
    path = copy / "images/0000/00000001.parquet"
    table = pq.read_table(path).drop_columns("key")
    width = table.schema.get_field_index("width")
    table = table.set_column(width, "width", table["width"].cast(pa.string()))
    pq.write_table(table, path, use_dictionary=False)
    said = [text for _, text in found(copy)]
    assert "its column width is string, not int32" in said
    assert "its column key is not there, not string" in said


@pytest.mark.parametrize("table", ["sources", "rejected", "canny"])
@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_an_index_is_not_made_of_a_damaged_file(copy: Path, table: str, kept: int) -> None:
    path = copy / table / "0000/00000000.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(MillError, match=f"{table}/0000/00000000.parquet is damaged"):
        Dataset.open(copy).finish(table)


@pytest.mark.parametrize("table", ["images", "canny"])
def test_training_says_which_file_is_damaged(copy: Path, table: str) -> None:
    path = copy / table / "0000/00000001.parquet"
    data = path.read_bytes()

    def read() -> list[tuple[bytes, bytes, str]]:
        opened = Dataset.open(copy)
        selection = select(opened, ["canny"])
        loader = Loader(
            opened, check_tables(opened, ["canny"]), selection, LoaderConfig(batch_size=len(selection.train))
        )
        return [(row.image.tobytes(), row.maps["canny"].tobytes(), row.caption) for row in next(loader.batches())]

    whole, said = read(), 0
    for at in range(40, len(data) // 2, len(data) // 50):  # pages are in the first half
        damaged = bytearray(data)
        damaged[at] ^= 16
        path.write_bytes(damaged)
        try:
            assert read() == whole
        except MillError as error:
            assert f"{table}/0000/00000001.parquet" in str(error)
            said += 1
    assert said > 15


@pytest.mark.parametrize(
    ("table", "values"),
    [
        *(("images", {name: None}) for name in ("width", "sha256", "image")),
        ("images", {"sha256": "of no hex"}),
        ("canny", {"map": {"bytes": None, "path": "x.png"}}),
    ],
)
def test_rows_that_no_job_writes_are_messages_in_training(copy: Path, table: str, values: dict[str, Any]) -> None:
    rewrite(copy, table, edit(0, **values))
    opened = Dataset.open(copy)
    with pytest.raises(MillError, match=r"controlmill verify tells more|cannot be decoded"):
        selection = select(opened, ["canny"])
        config = LoaderConfig(batch_size=len(selection.train))
        next(Loader(opened, {"canny": CONDITIONS["canny"]}, selection, config).batches())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dataset.json", "dataset.json: not a regular file"),
        (index_file("canny"), "canny: cannot be read: OSError: not a regular file"),
        ("canny/0000/00000001.parquet", "canny: 1 of 4 shards are missing"),
    ],
)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(copy: Path, name: str, said: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    status, shown = run("verify", str(copy))
    assert status == 1
    assert said in shown


def test_what_a_job_left_behind_is_named(copy: Path) -> None:
    for folder in ("_run/1f2e", "_redo/canny", "Odd folder"):
        (copy / folder).mkdir(parents=True)
    shutil.copy(copy / index_file("canny"), copy / index_file("ghost"))
    (copy / "dataset.json.12-0123abcd-0123abcd~").touch()
    where = {line.split(": ")[1] for line in run("verify", str(copy))[1].splitlines() if ": " in line}
    assert {"_run/1f2e", "Odd folder", "_tables/ghost.json", "dataset.json.12-0123abcd-0123abcd~"} <= where
    assert any("_redo" in place for place in where)


@pytest.mark.parametrize(
    "owner", ['"x"', '{"pid": "x"}', '{"host": "h", "pid": 1.5}', "[" * 9999, '{"host": 3, "pid": 4}']
)
def test_a_malformed_owner_of_a_run_is_a_message(tmp_path: Path, owner: str) -> None:
    (tmp_path / "_run/x").mkdir(parents=True)
    (tmp_path / "_run/x/owner.json").write_text(owner)
    for look in (sweep, require_alone):
        with pytest.raises(MillError, match=r"_run/x/owner\.json is damaged .*: if no job works"):
            look(open_storage(tmp_path))


@pytest.mark.long
def test_no_value_of_json_or_footers_makes_a_traceback_a_control_character_or_much_memory(
    dataset: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "tests.schemas.views.mutations", str(dataset), str(tmp_path), "10000"]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=3 * 3600)
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]


def test_files_of_a_dataset_have_the_permissions_of_any_other(dataset: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in dataset.rglob("*") if path.is_file()} == {0o666 & ~UMASK}
