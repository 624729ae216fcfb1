"""JSON of any content is taken in its shape, or is one message; nothing that is sized by it comes before."""

from __future__ import annotations

import copy
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controlmill.schemas.bounds import MAX_DEPTH, Count, Free, Positive
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import FORBID, made_of, parse, plain
from controlmill.schemas.names import index_file
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.records import Entry, Index


@dataclass(frozen=True)
class Part:
    """One of a list."""

    size: Count


@dataclass(frozen=True)
class Shape:
    """A file."""

    __pydantic_config__ = FORBID

    name: str
    parts: tuple[Part, ...]
    white: Positive | None = None
    counts: dict[str, Positive] | None = None
    any: Free | None = None


def test_what_has_the_shape_is_taken_and_written_as_it_was() -> None:
    value = {"name": "x", "parts": [{"size": 0}], "counts": {"a": 9}, "any": {"b": [1.5, None]}}
    found = parse(json.dumps(value).encode(), Shape)
    assert found == Shape("x", (Part(0),), None, {"a": 9}, {"b": [1.5, None]})
    assert plain(found) == value
    assert parse(b'{"name": "x", "parts": [], "white": null}', Shape) == Shape("x", ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "name is null, not text"),
        ({"name": ["x"]}, "name is a list, not text"),
        ({"parts": {}}, "parts is an object, not a list"),
        ({"parts": [{"size": -1}]}, "parts.0.size is -1, not at least 0"),
        ({"parts": [{"size": 2**60}]}, "parts.0.size is 1152921504606846976, not at most"),
        ({"parts": [{"size": True}]}, "parts.0.size is true, not a whole number"),
        ({"parts": [{"size": 1.0}]}, "parts.0.size is 1.0, not a whole number"),
        ({"parts": [{}]}, "no size in parts.0"),
        ({"counts": {"a": 0}}, "counts.a is 0, not at least 1"),
        ({"any": 3}, "any is 3, not an object"),
        ({"any": {"a": float("nan")}}, "a number is too large"),
        ({"any": {"a": 10**400}}, "a number is too large"),
        ({"white": 0}, "white is 0, not at least 1"),
        ({"name": {"\x1b[31m": 1}}, "name is an object, not text"),
        ({"\x1b[31m": 1}, "\\x1b[31m is not known"),
    ],
)
def test_another_shape_is_named_with_its_place_and_value(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as raised:
        parse(json.dumps({"name": "x", "parts": [], **change}).encode(), Shape)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe{}",
        b'{"a": 1',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"any":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}",
        b'{"name": "x", "parts": [], "any": {"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"9" * 5000,
        b"NaN",
        b'{"a": -Infinity}',
        b'{"name": "\\ud800", "parts": []}',
    ],
)
def test_what_is_no_such_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse(text, Shape)


def test_a_value_is_quoted_in_part_and_without_controls() -> None:
    with pytest.raises(ValueError, match=r'^parts is "\\u001b\\u0007x+, not a list') as raised:
        made_of(Shape, {"name": "x", "parts": "\x1b\x07" + "x" * 10_000})
    assert len(str(raised.value)) < 200


def test_an_index_of_ten_thousand_files_is_read_in_less_than_a_second() -> None:
    made = made_of(Provenance, {"table": "rejected", "kind": "rejected"})
    index = Index("rejected", made, (Entry(512, 8, 2**20, "0" * 64, reasons={"missing": 3}),) * 10_000)
    data = json.dumps(plain(index)).encode()
    started = time.process_time()
    assert parse(data, Index) == index
    assert time.process_time() - started < 1


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    value = copy.deepcopy(value)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return value


@pytest.mark.parametrize(
    ("at", "new", "said"),
    [
        (("segments",), "x", 'segments is "x", not a list'),
        (("segments", 0, "shards"), 10**12, "segments.0 has 1000000000000 shards from 0 on; its 13 rows make 4"),
        (("segments", 0, "rows"), 10**15, "segments.0 has 4 shards from 0 on; its 1000000000000000 rows make"),
        (("segments", 0, "first_shard"), 1, "segments.0 has 4 shards from 1 on"),
        (("segments", 0, "passed_over"), {"other": {"files": 1}}, "no most in segments.0.passed_over.other"),
        (("segments", 0, "shard_size"), 0, "segments.0.shard_size is 0, not at least 1"),
        (("segments", 0, "retries"), 0, "segments.0.retries is 0, which is no segment to retry"),
        (("ingest", "limits"), None, "ingest.limits is null, not an object"),
        (("ingest", "fit"), "../x", "ingest.fit is \"../x\", not 'crop', 'bucket' or 'none'"),
        (("speed",), 1, "speed is not known"),
    ],
)
def test_a_dataset_that_contradicts_itself_is_not_opened(
    dataset: Path, tmp_path: Path, at: tuple[Any, ...], new: Any, said: str
) -> None:
    config = json.loads((dataset / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(put(config, at, new)))
    with pytest.raises(MillError) as raised:
        Dataset.open(tmp_path)
    assert f"dataset.json is damaged ({said}" in str(raised.value)


@pytest.mark.parametrize(
    ("at", "new", "said"),
    [
        (("shards",), {}, "shards is an object, not a list"),
        (("shards", 1), None, "shards.1 is null, not an object"),
        (("shards", 0, "rows"), "many", 'shards.0.rows is "many", not a whole number'),
        (("shards", 0, "sha256"), "../../x", 'shards.0.sha256 is "../../x", not ^[0-9a-f]{64}$'),
        (("provenance",), None, "provenance is null, not an object"),
        (("provenance", "kind"), "images", "no ingest in provenance"),
        (("provenance", "kind"), "sources", 'provenance.kind is "sources", which canny is not'),
        (("shards", 2), {"rows": 1, "row_groups": 1, "bytes": 9, "sha256": "0" * 64}, "no images_sha256 in shards.2"),
        (("provenance", "annotator", "params"), 3, "provenance.annotator.params is 3, not an object"),
        (("table",), "../../etc", "it is the index of ../../etc"),
    ],
)
def test_a_malformed_index_is_a_message_with_its_file(
    dataset: Path, tmp_path: Path, at: tuple[Any, ...], new: Any, said: str
) -> None:
    shutil.copy(dataset / "dataset.json", tmp_path)
    opened = Dataset.open(tmp_path)
    (tmp_path / "canny").mkdir()
    index = json.loads((dataset / index_file("canny")).read_text())
    opened.storage.write_json(index_file("canny"), put(index, at, new))
    with pytest.raises(MillError) as raised:
        opened.index("canny")
    assert f"{tmp_path}/{index_file('canny')} is damaged ({said}" in str(raised.value)
