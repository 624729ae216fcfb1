"""What a worker says of a place that is not as it is where the question comes from."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from controlmill.annotators.runtime.weights import Found, WeightsFile
from controlmill.pipelines.cluster.looking import Question, answer_of, look
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.fingerprint import sha256_bytes

FILE = WeightsFile("net.pth", "owner/name", "0" * 40, "", 1, "a licence")


def faults(question: Question) -> list[str]:
    return list(asyncio.run(look(question))["faults"])


def test_the_dataset_is_looked_for_by_a_file_that_the_console_has_put_there(tmp_path: Path) -> None:
    storage, mark = open_storage(str(tmp_path)), tmp_path / "mark"
    question = Question(storage, str(mark))
    assert faults(question) == [
        f"{tmp_path} is not the folder that this machine sees: it must be shared, under the same path"
    ]
    mark.touch()
    found = asyncio.run(look(question))
    assert not found["faults"]
    assert Path(answer_of(str(mark), found["host"], found["pid"])).exists()


def test_pictures_must_be_there_and_the_same(photos: Path) -> None:
    corpus = open_corpus(str(photos))
    source = next(iter(corpus.list()))
    question = Question(
        corpus=corpus, sources=(source,), sums=(sha256_bytes((photos / source.source).read_bytes()),), largest=10**6
    )
    assert not faults(question)
    assert faults(replace(question, sums=("0",))) == [f"{source.source} of {photos} is another picture there"]
    (gone,) = faults(replace(question, sources=(source._replace(source="gone.png"),)))
    assert gone.startswith(f"gone.png of {photos} cannot be read: ")


@pytest.mark.parametrize(
    ("content", "fault"), [(b"one", ""), (b"two", "are not those that the job was started with"), (None, "are not on")]
)
def test_weights_are_compared_by_their_sum(tmp_path: Path, content: bytes | None, fault: str) -> None:
    if content:
        (tmp_path / "net.pth").write_bytes(content)
    here = Found("net.pth", str(tmp_path / "net.pth"), sha256_bytes(b"one"), "folder", "a licence")
    said = faults(Question(weights=((FILE, here),), folder=str(tmp_path)))
    assert fault in "".join(said) and bool(said) == bool(fault)


def test_devices_are_looked_for_when_they_are_asked_for() -> None:
    assert "devices" not in asyncio.run(look(Question()))
    assert "cpu" in asyncio.run(look(Question(devices=True)))["devices"]
