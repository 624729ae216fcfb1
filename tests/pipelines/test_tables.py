"""The tables of a job as other tools read them."""

from __future__ import annotations

from pathlib import Path

import duckdb
from PIL import Image

from tests.helpers import rows


def test_the_tables_are_read_by_datasets_and_duckdb(dataset: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = {
        table: load_dataset(str(dataset), table, split="train", cache_dir=str(tmp_path / "cache"))
        for table in ("images", "canny")
    }
    assert loaded["images"]["key"][:] == loaded["canny"]["key"][:]
    picture, edges = loaded["images"][3]["image"], loaded["canny"][3]["map"]
    assert isinstance(picture, Image.Image)
    assert (picture.mode, picture.size, edges.mode, edges.size) == ("RGB", (128, 128), "1", (128, 128))
    joined = duckdb.sql(
        f"SELECT i.key = c.key AS same FROM read_parquet('{dataset}/images/*/*.parquet') i "
        f"POSITIONAL JOIN read_parquet('{dataset}/canny/*/*.parquet') c"
    ).fetchall()
    assert joined == [(True,)] * 10


def test_what_is_stored_has_the_names_of_the_contract(dataset: Path) -> None:
    names = {table: list(rows(dataset, table)[0]) for table in ("sources", "images", "rejected", "canny", "hough")}
    head = ["key", "map", "reason", "error", "coverage"]
    assert names == {
        "sources": [
            *("source", "locator", "size", "etag", "caption", "texts", "columns", "reason", "fault"),
            *("retries_shard", "retries_row"),
        ],
        "images": [
            *("key", "source", "image", "width", "height", "original_width", "original_height"),
            *("crop_x", "crop_y", "crop_w", "crop_h", "sha256", "several", "caption", "caption_error"),
        ],
        "rejected": ["source", "reason", "error", "detail"],
        "canny": [*head, "low", "high"],
        "hough": [*head, "n_lines"],
    }
    drawn = {(row["low"], row["high"]) for row in rows(dataset, "canny")}
    assert len(drawn) > 5
    assert all(50 <= low <= 150 <= high <= 250 for low, high in drawn)
