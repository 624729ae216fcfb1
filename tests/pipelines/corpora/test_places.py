"""Addresses of files: patterns, their order, and names that do not lead out of the corpus."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import fsspec
import pytest

from controlmill.pipelines.corpora.places import Places, expand
from controlmill.schemas.errors import MillError, Refused

PATTERNS = {
    "*.tar": ["0.tar"],
    "**/*.tar": ["0.tar", "a/2.tar"],
    ".*.tar": ["._0.tar"],
    "{.cache,a}/*.tar": [".cache/1.tar", "a/2.tar"],
}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("x.tar", ["x.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{b,a}/{2..1}", ["b/2", "b/1", "a/2", "a/1"]),
        ("{x}{0..1}", ["{x}0", "{x}1"]),
    ],
)
def test_what_braces_stand_for(pattern: str, names: list[str]) -> None:
    assert list(expand(pattern)) == names


@pytest.mark.parametrize("store", [False, True])
def test_files_are_found_in_one_order_and_each_once(tmp_path: Path, store: bool) -> None:
    address = f"memory://places{tmp_path}" if store else str(tmp_path)
    fs, root = fsspec.core.url_to_fs(address)
    for name in ("b/2.tar", "b/1.tar", "a/3.tar", "a/x.txt", "{0..1}.tar"):
        fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{name}", name.encode())
    found = Places(f"{address}/{{b,a}}/*.tar").find()
    assert [place.name for place in found] == ["b/1.tar", "b/2.tar", "a/3.tar"]
    assert [place.size for place in found] == [7, 7, 7]
    places = Places(f"{address}/{{b/2,a/3}}.tar")
    assert [place.name for place in places.find()] == ["b/2.tar", "a/3.tar"]
    assert places.read("b/2.tar", 2, 5, places.find()[0].mark) == b"2.t"
    with pytest.raises(MillError, match=r"no file 3.tar and 1 more of its 4 files"):
        Places(f"{address}/b/{{1..4}}.tar").find()
    with pytest.raises(MillError, match="no file has such a name"):
        Places(f"{address}/c/*.tar").find()
    with pytest.raises(Refused, match="not below the corpus"):
        places.read("../x", 0, 1, None)


@pytest.mark.parametrize("store", [False, True])
def test_patterns_find_no_hidden_files_unless_they_say_so(tmp_path: Path, store: bool) -> None:
    address = f"memory://hidden{tmp_path}" if store else str(tmp_path)
    fs, root = fsspec.core.url_to_fs(address)
    for name in ("0.tar", "._0.tar", ".cache/1.tar", "a/2.tar"):
        fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{name}", b"x")
    found = {pattern: [place.name for place in Places(f"{address}/{pattern}").find()] for pattern in PATTERNS}
    assert found == PATTERNS


@pytest.mark.parametrize("store", [False, True])
def test_the_dataset_is_no_part_of_its_corpus(tmp_path: Path, store: bool) -> None:
    address = f"memory://own{tmp_path}" if store else str(tmp_path)
    fs, root = fsspec.core.url_to_fs(address)
    for name in ("0.parquet", "dataset/images/0.parquet", "dataset2/1.parquet"):
        fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{name}", b"x")
    for folder in (f"{address}/dataset", f"{address}/dataset/"):
        found = Places(f"{address}/**/*.parquet").find([folder, "elsewhere", "s3://bucket/dataset"])
        assert [place.name for place in found] == ["0.parquet", "dataset2/1.parquet"]


def test_no_bytes_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs, root = fsspec.core.url_to_fs(address := f"memory://places{tmp_path}")
    fs.pipe_file(f"{root}/x.tar", b"0123")
    places = Places(f"{address}/x.tar")
    monkeypatch.setattr(type(fs), "cat_file", None)
    assert places.read("x.tar", 2, 2, places.find()[0].mark) == b""


def test_files_of_a_store_are_looked_at_several_at_a_time_and_what_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, root = fsspec.core.url_to_fs(address := f"memory://several{tmp_path}")
    for number in range(4):
        fs.pipe_file(f"{root}/{number}.tar", b"x")
    together, info = threading.Barrier(4, timeout=10), type(fs).info

    def looked_at(self: object, path: str, **words: object) -> object:
        together.wait()
        return info(self, path, **words)

    monkeypatch.setattr(type(fs), "info", looked_at)
    assert [place.name for place in Places(f"{address}/{{3..0}}.tar").find()] == ["3.tar", "2.tar", "1.tar", "0.tar"]

    def forbid(*_: object, **__: object) -> object:
        raise PermissionError(errno.EACCES, "Forbidden")

    monkeypatch.setattr(type(fs), "info", forbid)
    with pytest.raises(MillError, match=r"1\.tar cannot be looked at: Forbidden"):
        Places(f"{address}/1.tar").find()


def test_a_name_with_braces_that_is_there_is_itself(tmp_path: Path) -> None:
    (tmp_path / "{0..1}.tar").write_bytes(b"x")
    assert [place.name for place in Places(str(tmp_path / "{0..1}.tar")).find()] == ["{0..1}.tar"]


def test_more_names_than_a_corpus_has_are_refused() -> None:
    with pytest.raises(MillError, match="more than 100,000 files"):
        Places("/nowhere/{0..99999999}.tar").find()
