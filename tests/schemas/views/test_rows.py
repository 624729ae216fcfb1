"""The Python API: rows of several tables side by side, decoded, in the order of the images, a row group at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import controlmill
from controlmill.schemas.files.shardfile import ShardFile, ShardWriter, read_footer, read_table
from controlmill.schemas.images.codecs import decode_map, encode_map
from controlmill.schemas.names import shard_file
from controlmill.schemas.views import rows as reading
from tests.helpers import rows as stored_rows
from tests.schemas.views.changed_datasets import edit, rewrite


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(dataset, tmp_path / "dataset")
    return tmp_path / "dataset"


def test_importing_loads_nothing() -> None:
    heavy = ("numpy", "pyarrow", "PIL", "torch", "typer")
    said = f"import sys, controlmill; dir(controlmill); print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert {"open_dataset", "MillError", "Row", "OpenDataset"} <= set(dir(controlmill))


def test_every_row_has_what_each_table_stores_of_it(dataset: Path) -> None:
    opened = controlmill.open_dataset(dataset)
    assert opened.tables == ["images", "canny", "hough", "cartoon"]
    assert len(opened) == 10
    images, canny = stored_rows(dataset, "images"), stored_rows(dataset, "canny")
    read = list(opened.rows("canny", "images"))
    assert [row.key for row in read] == [row["key"] for row in images]
    for row, image, edges in zip(read, images, canny, strict=True):
        picture, found = row["images"], row["canny"]
        assert picture.dtype == np.uint8
        assert picture.shape == (image["height"], image["width"], 3)
        np.testing.assert_array_equal(found, decode_map("binary", edges["map"]["bytes"]))
        assert found.shape == picture.shape[:2]
        assert row.columns("canny")["low"] == edges["low"]
        assert row.columns("images")["caption"] == image["caption"]
        assert row.reason("canny") is None
    with pytest.raises(KeyError):
        read[0]["hough"]


@pytest.mark.parametrize(("first", "count"), [(0, 3), (2, 3), (3, 1), (7, None), (9, 5), (10, 1), (0, 0)])
def test_a_part_is_the_part_of_all(dataset: Path, first: int, count: int | None) -> None:
    opened = controlmill.open_dataset(dataset)
    keys = [row.key for row in opened.rows("images")]
    end = None if count is None else first + count
    assert [row.key for row in opened.rows("hough", first=first, count=count)] == keys[first:end]


def test_a_refused_map_is_none_with_its_reason(copy: Path) -> None:
    path = copy / shard_file("hough", 0)
    with path.open("rb") as file:
        opened = ShardFile(file)
        stored, schema, footer = read_table(opened).to_pylist(), opened.schema_arrow, read_footer(opened)
    stored[0] |= {"map": None, "reason": "failed", "error": "a reason"}
    with ShardWriter(path, schema.remove_metadata(), footer.provenance) as writer:
        writer.write_group(stored)
        writer.close(footer.summary)
    first = next(controlmill.open_dataset(copy).rows("hough"))
    assert (first["hough"], first.reason("hough")) == (None, "failed")


def test_tables_of_other_rows_are_an_error(copy: Path) -> None:
    shutil.copyfile(copy / shard_file("canny", 0), copy / shard_file("canny", 1))
    read = controlmill.open_dataset(copy).rows("images", "canny")
    with pytest.raises(controlmill.MillError, match="do not have the same rows in shard"):
        list(read)


def test_a_map_of_another_size_than_its_picture_is_an_error(copy: Path) -> None:
    small = encode_map("binary", np.zeros((8, 8), np.uint8))
    rewrite(copy, "hough", edit(0, map={"bytes": small, "path": "x.png"}))
    rows = list(controlmill.open_dataset(copy).rows("images", "hough"))
    damaged = next(row for row in rows if row.data("hough") == small)
    with pytest.raises(controlmill.MillError, match="is damaged: it is 8x8, not 128x128"):
        damaged["hough"]


def test_what_cannot_be_read_is_said(copy: Path) -> None:
    (copy / shard_file("canny", 1)).unlink()
    opened = controlmill.open_dataset(copy)
    with pytest.raises(
        controlmill.MillError, match=r"no complete table canny, depth; there are: images, hough, cartoon"
    ):
        opened.rows("images", "canny", "depth")
    with pytest.raises(controlmill.MillError, match="is not a dataset"):
        controlmill.open_dataset(copy.parent)


def test_without_all_images_it_is_not_known_which_rows_there_are(copy: Path) -> None:
    shutil.rmtree(copy / "images")  # as where a copy was cut off
    with pytest.raises(controlmill.MillError, match="no complete table images; there are: canny, hough, cartoon"):
        controlmill.open_dataset(copy).rows("canny")


def test_a_row_group_is_read_at_a_time_and_what_is_not_asked_for_is_not_decoded(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int | None] = []
    read_table = reading.read_table
    monkeypatch.setattr(reading, "read_table", lambda *words: read.append(words[2]) or read_table(*words))
    monkeypatch.setattr(reading, "decode_image", lambda *_: pytest.fail("decoded"))
    rows = controlmill.open_dataset(dataset).rows("images", "canny")
    next(rows)["canny"]
    assert len(read) == 2  # a group of each table
    for _ in rows:
        pass
    assert len(read) == 2 * 4
