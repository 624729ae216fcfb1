"""A folder of a store: the same listing, pictures and captions as of a folder of this machine."""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from controlmill.pipelines.corpora.corpus import Record, Source
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.pipelines.corpora.passed_over import PassedOver
from controlmill.pipelines.corpora.store import StoreCorpus
from controlmill.pipelines.engine.faults import JobFault
from controlmill.schemas.errors import MillError, Refused
from tests.helpers import write_photos
from tests.pipelines.corpora.test_tar import MANY


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_photos(tmp_path / "photos", 5)
    (folder / "part2/002.txt").write_text("")
    (folder / ".hidden").mkdir()
    (folder / ".hidden/x.png").write_bytes(b"x")
    (folder / "metadata.jsonl").write_text('{"file_name": "part2/002.webp", "text": "of the table"}\n')
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.pdf").write_bytes(b"x")
    return folder


@pytest.fixture
def store(photos: Path) -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.put(str(photos), "/corpus", recursive=True)
    yield "memory://corpus"
    fs.rm("/corpus", recursive=True)


def everything(corpus: Any) -> tuple[list[tuple[Source, Record]], object]:
    passed = PassedOver()
    sources = list(corpus.list(passed))
    return [(source._replace(etag=None), corpus.read(source, MANY)) for source in sources], passed.said()


def test_it_is_listed_and_read_as_a_folder_is(photos: Path, store: str) -> None:
    corpus = open_corpus(store)
    assert isinstance(corpus, StoreCorpus)
    assert everything(corpus) == everything(FolderCorpus(str(photos)))
    sources = list(corpus.list())
    assert all(corpus.is_as_listed(source) for source in sources)
    assert [source.source for source in open_corpus(f"{store}/part0").list()] == ["000.jpg", "003.JPEG"]
    assert not [source for source in corpus.list(None, ["memory://corpus/part0"]) if "part0" in source.source]


def test_what_changed_is_gone_or_leads_out_is_found(store: str) -> None:
    corpus, fs = StoreCorpus(store), fsspec.filesystem("memory")
    one, two, *_ = (source for source in corpus.list() if source.size)
    with pytest.raises(Refused, match="the cap is 10"):
        corpus.read(one, 10)
    fs.pipe_file(f"/corpus/{one.source}", b"x" * 10)
    fs.rm(f"/corpus/{two.source}")
    for source, reason in ((one, "changed"), (two, "missing"), (Source("../secret.png", size=3), "missing")):
        assert not corpus.is_as_listed(source)
        with pytest.raises(Refused) as refused:
            corpus.read(source, MANY)
        assert refused.value.reason == reason


def test_a_store_that_does_not_answer_is_no_fault_of_a_picture(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = StoreCorpus(store)
    source = next(corpus.list())

    def refuse(*_: object, **__: object) -> bytes:
        raise RuntimeError("the client lost its connection")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", refuse)
    with pytest.raises(JobFault, match=r"lost its connection.*run the same command again"):
        corpus.read(source, MANY)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", refuse)
    with pytest.raises(MillError, match="cannot be listed"):
        list(corpus.list())


def test_a_file_that_is_forbidden_is_refused_and_a_store_that_is_stops_the_job(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, memory = StoreCorpus(store), type(fsspec.filesystem("memory"))
    source = next(source for source in corpus.list() if source.size)

    def forbid(*_: object, **__: object) -> bytes:
        raise PermissionError(errno.EACCES, "Forbidden")

    monkeypatch.setattr(memory, "cat_file", forbid)
    with pytest.raises(Refused, match="Forbidden") as refused:
        corpus.read(source, MANY)
    assert refused.value.reason == "unreadable"
    monkeypatch.setattr(memory, "info", forbid)
    with pytest.raises(JobFault, match="Forbidden"):
        corpus.read(source, MANY)


def test_tars_of_a_store_are_read_by_their_members(tmp_path: Path, photos: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(photos, ".")
    fsspec.filesystem("memory").put_file(str(path), "/tars/x.tar")
    local, remote = open_corpus(str(path)), open_corpus("memory://tars/*.tar")
    assert everything(remote) == everything(local)
    with pytest.raises(MillError, match="no such folder"):
        list(open_corpus(f"memory://{os.urandom(4).hex()}").list())
