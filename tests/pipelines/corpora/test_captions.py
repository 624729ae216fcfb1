"""Captions beside pictures: what is read, and that what is not understood costs the caption alone and is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlmill.pipelines.corpora.captions import BYTE_ORDER_MARKS, caption_beside, caption_of_file
from controlmill.pipelines.corpora.columns import Columns
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.corpora.store import StoreCorpus
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.records import CaptionCounts
from tests.helpers import make, rows, scene, write_photos

MARKS = (b"", *BYTE_ORDER_MARKS)
SAID = "a red letter and a blue disc"


def beside(folder: Path, picture: str = "a.png") -> str | None:
    """The caption of a picture as ingest takes it: by what the listing says of its folder."""
    (folder / picture).write_bytes(b"x")
    source = next(source for source in FolderCorpus(str(folder)).list() if source.source == picture)
    return caption_beside(folder / picture, source.texts)


@pytest.mark.parametrize(
    ("name", "data", "caption"),
    [
        ("a.txt", "\ufeff a cat \n".encode(), "a cat"),
        ("a.txt", SAID.encode("utf-16"), SAID),
        ("a.txt", b"\xfe\xff" + SAID.encode("utf-16-be"), SAID),
        ("a.txt", SAID.encode("utf-32"), SAID),
        ("a.TXT", SAID.encode(), SAID),
        ("a.Caption", SAID.encode(), SAID),
        ("a.png.txt", SAID.encode(), SAID),
        ("a.png.json", json.dumps({"text": SAID}).encode(), SAID),
        ("a.txt", b"", None),
        ("a.txt", b" \n\n ", None),
        ("a.json", b"", None),
        ("b.txt", SAID.encode(), None),
    ],
)
def test_files_that_are_captions(tmp_path: Path, name: str, data: bytes, caption: str | None) -> None:
    (tmp_path / name).write_bytes(data)
    assert beside(tmp_path) == caption


@pytest.mark.parametrize(
    ("value", "caption"),
    [
        ({"caption": SAID}, SAID),
        ({"text": "a dog", "score": 1}, "a dog"),
        ({"prompt": "a dog", "caption": "a cat"}, "a cat"),
        ({"caption": ["", "one", "two"]}, "one"),
        ({"captions": ["one"]}, "one"),
        ({"Caption": SAID}, SAID),
        ({"caption": None, "text": SAID}, SAID),
        ({"caption": None}, None),
        ({"caption": []}, None),
        (SAID, SAID),
        ([SAID, "another"], SAID),
        (None, None),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_json_that_says_a_caption(tmp_path: Path, value: Any, caption: str | None, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(value).encode(encoding))
    assert beside(tmp_path) == caption


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", SAID.encode("utf-16-le"), "a.txt: it holds NUL"),
        ("a.txt", b"a red\0letter", "NUL"),
        ("a.txt", "café".encode("cp1252"), "neither UTF-8 nor UTF-16"),
        ("a.txt", b"x" * 100_001, "larger than 100000 bytes"),
        ("a.png.txt", b"\0", "a.png.txt: "),
        ("a.json", b"{broken", "a.json: Expecting"),
        ("a.json", b"[" * 50_000, "nested too deep"),
        ("a.json", b'{"caption": 7}', "caption: neither a text nor a list of texts but a number"),
        ("a.json", b'{"captions": [{"caption": "x"}]}', "captions: neither a text nor a list of texts"),
        ("a.json", b'[{"caption": "x"}]', "neither a text nor a list of texts"),
        ("a.json", b'{"image": {"caption": "x"}}', "none of caption, text, prompt, captions in it"),
        ("a.json", b'{"caption": "\\ud800"}', "half a character"),
        ("a.json", b'{"caption": "\\u0000"}', "NUL"),
    ],
)
def test_what_is_there_and_not_understood_is_an_error_with_the_files_name(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=said):
        beside(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["caption", "Text", "x"]), inner),
)


@given(
    st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()), st.booleans(), st.sampled_from(MARKS)
)
def test_any_bytes_are_a_caption_or_a_value_error(data: bytes, is_json: bool, mark: bytes) -> None:
    try:
        caption = caption_of_file(mark + data, is_json)
    except ValueError:
        return
    assert caption is None or (caption.encode() and "\0" not in caption and caption == caption.strip())


def test_the_first_file_that_says_something_counts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "a.json").write_text(json.dumps({"caption": "of json"}))
    assert beside(tmp_path) == "of json"
    (tmp_path / "a.caption").write_text("of caption")
    assert beside(tmp_path) == "of caption"
    (tmp_path / "a.txt").write_text("of txt")
    assert beside(tmp_path) == "of txt"
    (tmp_path / "a.png.txt").write_text("of the whole name")
    assert beside(tmp_path) == "of the whole name"


def test_a_name_too_long_for_a_caption_beside_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"caption": "x"}')
    assert beside(tmp_path, "n" * 251 + ".png") is None


def test_where_no_text_is_in_the_folder_none_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (source,) = FolderCorpus(str(tmp_path)).list()
    monkeypatch.setattr(os, "open", None)
    assert caption_beside(tmp_path / "a.png", source.texts) is None


def test_captions_arrive_in_their_rows(photos: Path, dataset: Path) -> None:
    assert {row["source"].split("/")[-1][:3]: row["caption"] for row in rows(dataset, "images")} == {
        f"{number:03d}": f"scene {number}" if number % 2 else None for number in range(10)
    }


def test_a_caption_that_cannot_be_read_costs_no_picture(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 4)  # two with captions
    scene(9).save(photos / "bad.png")
    (photos / "bad.txt").write_bytes("café".encode("latin-1"))
    make(photos, tmp_path / "dataset", "canny")
    assert rows(tmp_path / "dataset", "rejected") == []
    found = {row["source"]: (row["caption"], row["caption_error"]) for row in rows(tmp_path / "dataset", "images")}
    assert found["part1/001.png"] == ("scene 1", None)
    assert found["bad.png"][0] is None
    assert found["bad.png"][1].startswith("bad.txt: neither UTF-8")
    index = Dataset.open(tmp_path / "dataset").index("images")
    assert index
    assert [entry.captions for entry in index.shards] == [CaptionCounts(2, 1), CaptionCounts(0, 0)]


KEPT = Columns(kept=(("score", "float64"), ("license", "")))


@pytest.mark.parametrize(
    ("files", "columns", "caption", "error", "kept"),
    [
        ({"a.txt": SAID, "a.json": '{"score": 1, "more": 2}'}, KEPT, SAID, None, {"score": 1}),
        ({"a.json": '{"score": 1, "text": "b"}'}, KEPT, "b", None, {"score": 1}),
        ({"a.json": '{"score": 1}'}, KEPT, None, None, {"score": 1}),
        ({"a.json": '{"more": 1}'}, KEPT, None, "none of caption", {}),
        ({"a.json": '{"score": 1}'}, Columns(), None, "none of caption", {}),
        ({"a.json": '{"score": 1, "text": 5}'}, KEPT, None, "a number", {"score": 1}),
        ({"a.txt": SAID, "a.json": '{"score": '}, KEPT, SAID, None, {}),
        ({"a.json": "[1]"}, KEPT, None, "list of other things", {}),
        (
            {"a.json": '{"score": 1, "license": "x"}', "a.png.json": '{"score": 2}'},
            KEPT,
            *(None, None, {"score": 2, "license": "x"}),
        ),
        ({"a.json": '{"alt": "b", "text": "c"}'}, Columns(caption="alt"), "b", None, {}),
        ({"a.json": '{"text": "c"}'}, Columns(caption="alt"), None, None, {}),
        ({"b.json": '{"score": 1}'}, KEPT, None, None, {}),
    ],
)
@pytest.mark.parametrize("is_store", [False, True])
def test_columns_beside_a_picture(
    tmp_path: Path,
    files: dict[str, str],
    columns: Columns,
    caption: str | None,
    error: str | None,
    kept: dict[str, Any],
    is_store: bool,
) -> None:
    """They are kept whether the caption is in the same file, in another one, cannot be read, or is not there."""
    for name, text in {**files, "a.png": "picture"}.items():
        (tmp_path / name).write_text(text)
    corpus = StoreCorpus(f"file://{tmp_path}", columns) if is_store else FolderCorpus(str(tmp_path), columns)
    (source,) = corpus.list()
    record = corpus.read(source, 100)
    assert (record.caption, record.columns) == (caption, kept)
    assert (error in record.caption_error) if error and record.caption_error else record.caption_error == error
