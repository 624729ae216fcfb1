"""Every promise that `verify` checks is broken here once, and found."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import ShardFile, ShardWriter, read_footer
from controlmill.schemas.images.codecs import encode_map
from controlmill.schemas.names import index_file, shard_file
from controlmill.schemas.views import card, row_faults
from controlmill.schemas.views.sheet import contact_sheet
from controlmill.schemas.views.verify import verify
from recipes.demo import png_header
from tests.helpers import scene
from tests.schemas.images.encodings import encoded
from tests.schemas.views.changed_datasets import edit, found, rewrite, write_captions


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(dataset, tmp_path / "dataset")
    return tmp_path / "dataset"


def test_a_sound_dataset_has_no_faults(dataset: Path) -> None:
    assert found(dataset) == []


def test_a_vanished_row(copy: Path) -> None:
    rewrite(copy, "images", lambda all_rows: all_rows[:-1])
    assert ("conservation", "4 listed, 3 kept, 0 rejected") in found(copy)


def test_a_source_kept_under_another_name(copy: Path) -> None:
    rewrite(copy, "images", edit(0, source="part9/999.png"))
    assert "conservation" in {promise for promise, _ in found(copy)}


def test_swapped_maps(copy: Path) -> None:
    rewrite(copy, "canny", lambda all_rows: [all_rows[1], all_rows[0], *all_rows[2:]])
    assert any(promise == "alignment" and "where the images have" in text for promise, text in found(copy))


def test_a_map_of_another_size(copy: Path) -> None:
    small = encode_map("binary", np.zeros((9, 9), np.uint8))
    rewrite(copy, "canny", edit(2, map={"bytes": small, "path": "x.png"}))
    key = pq.read_table(copy / "canny/0000/00000001.parquet").column("key")[2].as_py()
    assert found(copy) == [("alignment", f"{key}: is 9x9, not 128x128")]


def test_a_coverage_that_is_not_the_maps(copy: Path) -> None:
    rewrite(copy, "canny", edit(2, coverage=0.75))
    ((promise, text),) = found(copy)
    assert promise == "alignment"
    assert "has a coverage of 0.75, its map of 0.0" in text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(scene(0, 128, 128), "EPS"), "not a picture of a known format (JPEG, PNG, WEBP)"),
        (encoded(scene(0, 128, 128), "TIFF"), "not a picture of a known format (JPEG, PNG, WEBP)"),
        (png_header(5_000, 5_000), "is 5000x5000, not 128x128"),
        (encoded(scene(0, 128, 128).convert("L")), "is a picture of mode L, not RGB"),
    ],
    ids=["EPS", "TIFF", "size", "mode"],
)
def test_a_stored_picture_that_no_dataset_holds_is_not_decoded(copy: Path, data: bytes, said: str) -> None:
    rewrite(copy, "images", edit(1, image={"bytes": data, "path": "x.png"}))
    assert any(said in text for promise, text in found(copy) if promise == "alignment")
    assert contact_sheet(Dataset.open(copy), rows=200).width


def test_a_map_that_cannot_be_decoded(copy: Path) -> None:
    rewrite(copy, "canny", edit(2, map={"bytes": b"PNG?", "path": "x.png"}))
    assert any(promise == "alignment" and "cannot be decoded" in text for promise, text in found(copy))


@pytest.mark.parametrize("pixels", [True, False])
def test_a_null_without_a_reason(copy: Path, pixels: bool) -> None:
    key = pq.read_table(copy / "canny/0000/00000001.parquet").column("key")[1].as_py()
    rewrite(copy, "canny", edit(1, map=None))
    assert found(copy, pixels) == [("conservation", f"{key}: has no map and no reason")]
    rewrite(copy, "canny", edit(1, map=None, reason="failed"))
    assert found(copy, pixels) == []


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("reason", [None, "failed"])
def test_a_null_caption(copy: Path, reason: str | None, pixels: bool) -> None:
    write_captions(copy, row=2, reason=reason)
    key = pq.read_table(copy / "captions/0000/00000001.parquet").column("key")[2].as_py()
    assert found(copy, pixels) == ([] if reason else [("conservation", f"{key}: has no caption and no reason")])


def test_without_pixels_nothing_is_decoded(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(row_faults, "decode_map", forbidden)
    monkeypatch.setattr(row_faults, "decode_image", forbidden)
    assert found(dataset, pixels=False) == []


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_faults_have_one_order_whatever_the_threads(copy: Path, threads: int) -> None:
    rewrite(copy, "images", edit(0, source="part9/999.png"))
    rewrite(copy, "canny", lambda all_rows: [all_rows[1], all_rows[0], *all_rows[2:]])
    dataset, told = Dataset.open(copy), list[int]()
    assert dataset.shards == 4
    assert list(verify(dataset, True, threads, told.append)) == list(verify(dataset))
    assert told == list(range(1, dataset.shards - threads + 1))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "foreign"])
def test_a_damaged_file(copy: Path, damage: str) -> None:
    path = copy / "canny" / "0000" / "00000001.parquet"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "foreign":
        pq.write_table(pa.table({"key": ["a"]}), path)
        data = bytearray(path.read_bytes())
    path.write_bytes(data[: {"truncate": len(data) // 2, "empty": 0}.get(damage, len(data))])
    assert "commit" in {promise for promise, _ in found(copy)}


def test_missing_and_left_over_files(copy: Path) -> None:
    (copy / "canny" / "0000" / "00000002.parquet").unlink()
    (copy / "hough" / "0000" / "00000009.parquet").write_bytes(b"")
    (copy / "cartoon" / "0000" / "left-over~").write_bytes(b"")
    said = found(copy)
    assert ("commit", "1 of 4 shards are missing, the first is 2") in said
    assert ("commit", "files of no shard: [9]") in said
    assert ("commit", "is not a shard's file") in said


def test_settings_that_are_not_the_tables(copy: Path) -> None:
    config = json.loads((copy / "dataset.json").read_text())
    config["ingest"]["resolution"] = 999
    config["segments"][0]["rows"] += 1
    (copy / "dataset.json").write_text(json.dumps(config))
    said = found(copy)
    assert ("provenance", "the settings of segment 0 are not those of its images: resolution: 128, now 999") in said
    assert ("conservation", "segment 0 counts 14 listed files, the sources another number") in said


def test_a_damaged_index_and_a_strange_folder_are_listed_with_the_rest(copy: Path) -> None:
    (copy / index_file("canny")).write_text("{")
    (copy / "hough" / "old").mkdir()
    (copy / "hough" / "old" / "00000000.parquet").write_bytes(b"")
    (copy / "cartoon" / "²").mkdir()  # a digit, but no number
    (copy / "cartoon" / "0000" / "²²²²²²²².parquet").write_bytes(b"")
    said = found(copy)
    assert Dataset.open(copy).committed("cartoon") == {0, 1, 2, 3}
    assert any("cannot be read" in text for _, text in said)
    assert ("commit", "is not a shard's file") in said


def test_files_made_in_two_ways_are_not_one_table(copy: Path) -> None:
    path = copy / "canny" / "0000" / "00000001.parquet"
    with path.open("rb") as file:
        parquet = ShardFile(file)
        footer, table = read_footer(parquet), parquet.read()
    other = replace(footer.provenance, annotator=replace(footer.provenance.made_by, version=99))
    with ShardWriter(path, footer.schema.remove_metadata(), other) as writer:
        writer.write_group(table.to_pylist())
        writer.close(footer.summary)
    with pytest.raises(MillError, match=r"shard 1 differs from those before it in annotator.version: 1, now 99"):
        Dataset.open(copy).finish("canny")
    assert any(promise == "provenance" for promise, _ in found(copy))


def test_a_card_of_other_tables_is_named(copy: Path) -> None:
    rewrite(copy, "canny", edit(0, low=1))
    before = (copy / "README.md").read_text()
    rewrite(copy, "canny", edit(0, low=2))
    assert found(copy) == []
    (copy / "README.md").write_text(before)
    assert found(copy) == [("commit", "was written for other tables: the next job writes it again")]


def test_a_table_is_offered_to_readers_only_when_it_is_complete(copy: Path) -> None:
    assert "config_name: canny" in (copy / "README.md").read_text()
    (copy / index_file("canny")).unlink()
    (copy / "canny" / "0000" / "00000003.parquet").unlink()
    opened = Dataset.open(copy)
    card.write(opened)
    assert "config_name: canny" not in (copy / "README.md").read_text()
    assert opened.state("canny").status == "partial"


@pytest.mark.parametrize(
    ("version", "message"),
    [(2, "made by an earlier ControlMill .schema 2.: build it again"), (99, "schema version 99; this ControlMill")],
)
def test_another_schema_version_is_refused(copy: Path, version: int, message: str) -> None:
    config = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**config, "version": version}))
    with pytest.raises(MillError, match=message):
        Dataset.open(copy)


def test_a_table_s_folder_holds_shard_files_alone(dataset: Path) -> None:
    opened = Dataset.open(dataset)
    for table in opened.tables():
        files = {str(path.relative_to(dataset)) for path in (dataset / table).rglob("*") if path.is_file()}
        assert files == {shard_file(table, shard) for shard in range(opened.shards)}


def test_a_config_without_its_parts_is_damaged(copy: Path) -> None:
    for text, message in (
        ('["no", "config"]', "is damaged"),
        ('{"version": 4}', "damaged .no ingest"),
    ):
        (copy / "dataset.json").write_text(text)
        with pytest.raises(MillError, match=message):
            Dataset.open(copy)


def test_provenance_has_no_clock_host_or_path(dataset: Path) -> None:
    for path in dataset.rglob("*.parquet"):
        said = pq.read_metadata(path).metadata[b"controlmill"].decode()
        assert str(dataset.parent) not in said
        assert set(json.loads(said)) <= {
            *("table", "kind", "shard", "images_sha256", "annotator", "ingest", "packages", "listing"),
        }
