"""Captions: of several the one that the rule says; lists by whatever column names the pictures."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.pipelines.labels.source import LabelSource
from controlmill.schemas.errors import MillError
from tests.pipelines.labels.labelled import LIMITS, label_of, reason_of, source_at


def write_coco(folder: Path, *captions: tuple[int, str]) -> Path:
    """A file with captions, (id, text), of picture 5."""
    written = {
        "images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (5, 6)],
        "annotations": [{"id": number, "image_id": 5, "caption": text} for number, text in captions],
    }
    path = folder / "captions_val2017.json"
    path.write_text(json.dumps(written), "utf-8")
    return path


def caption(source: LabelSource, picture: str) -> str:
    return str(label_of(source, picture)["caption"])


def test_of_several_captions_one_is_taken_by_the_rule(tmp_path: Path) -> None:
    path = write_coco(tmp_path, (30, "a long caption of it"), (7, " one "), (9, "two"), (1, " "))
    picture = "val2017/000000000005.jpg"
    assert caption(source_at("captions", path), picture) == "one"
    assert caption(source_at("captions", path, pick="longest"), picture) == "a long caption of it"
    drawn = source_at("captions", path, pick="drawn")
    assert caption(drawn, picture) == caption(drawn, picture)
    parts = (json.dumps(["one", "two", "three"]).encode(),)
    found = {drawn.row_of(parts, {"key": str(key)}, LIMITS)["caption"] for key in range(50)}
    assert found == {"one", "two", "three"}
    assert reason_of(drawn, "000000000006.jpg") == "missing"
    assert drawn.made_by() != source_at("captions", path).made_by()


def test_of_a_list_of_captions_in_one_line_one_is_taken_by_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    lines = [["z first", " ", "a long caption", "NUL \0 that is the longest"], ["a last and the longest of all"]]
    path.write_text("".join(json.dumps({"file_name": "cat.png", "captions": line}) + "\n" for line in lines), "utf-8")
    assert caption(source_at("captions", path), "cat.png") == "z first"
    assert caption(source_at("captions", path, pick="longest"), "cat.png") == "a last and the longest of all"
    assert len(json.loads(source_at("captions", path, pick="drawn").open().read("cat.png", 1000)[0])) == 3


def test_captions_that_no_table_can_hold_are_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path, (1, "NUL \0"))
    with pytest.raises(MillError, match="caption is no text"):
        source_at("captions", path).open()
    assert (
        reason_of(source_at("captions", write_coco(tmp_path, (1, "x" * 100_001))), "000000000005.jpg") == "bad_caption"
    )
    with pytest.raises(MillError, match="captions go to the table captions"):
        source_at("captions", path, table="other")


LISTS: dict[str, tuple[str, str]] = {  # name of the file → what is in it, the picture
    "metadata.jsonl": (
        '{"file_name": "a/cat.png", "text": "a cat"}\n{"file_name": "b/cat.png", "text": "b"}\n',
        "a/cat.jpg",
    ),
    "list.csv": ('image,caption\ncat.png,"a cat"\n', "x/cat.png"),
    "part.tsv": ("key\tcaption\n000000123\ta cat\n", "00000/000000123.jpg"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_name_pictures_in_any_of_their_columns(name: str, tmp_path: Path) -> None:
    text, picture = LISTS[name]
    (tmp_path / name).write_text(text, "utf-8")
    source = source_at("captions", tmp_path / name)
    assert caption(source, picture) == "a cat"
    assert reason_of(source, "dog.png") == "missing"


def test_columns_of_a_table_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    pq.write_table(pa.table({"uid": ["e1f2", "e1f2"], "TEXT": ["a cat", "again"], "alt": ["other", ""]}), path)
    assert caption(source_at("captions", path), "e1f2.jpg") == "a cat"
    chosen: Any = {"picture_column": "uid", "caption_column": "alt"}
    assert source_at("captions", path, **chosen).open().read("e1f2.jpg", 1 << 20) == (b'["other"]',)
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(MillError):
        source_at("captions", path).open()


def test_what_is_wrong_with_a_list_is_said(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes("file_name,text\ncaf\xe9.png,one\ncat.png,a cat\n".encode("latin-1"))
    source = source_at("captions", path)
    assert caption(source, "cat.png") == "a cat"
    with pytest.raises(MillError, match=r"list\.csv: no column alt \(there are: file_name, text\)"):
        source_at("captions", path, caption_column="alt").open()
    packed = tmp_path / "list.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes())[:-9])
    with pytest.raises(MillError, match=r"list\.csv\.gz cannot be read"):
        source_at("captions", packed).open()


def test_a_list_without_the_column_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"number": 5, "text": "a cat"}', "utf-8")
    with pytest.raises(MillError, match="no column name"):
        source_at("captions", path, picture_column="name").open()
    with pytest.raises(MillError, match="--picture-column says which does"):
        source_at("captions", path).open()
