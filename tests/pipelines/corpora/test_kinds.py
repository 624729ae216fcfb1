"""A second kind of corpus, of records in memory: what any kind must be, and that ingest asks for nothing else."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlmill.pipelines import ingestion
from controlmill.pipelines.corpora.corpus import Corpus, Record, Source
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.corpora.kinds import KINDS, open_corpus
from controlmill.pipelines.corpora.passed_over import PassedOver
from controlmill.pipelines.corpora.tar import TarCorpus
from controlmill.pipelines.engine.faults import JobFault
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.fingerprint import row_key, sha256_bytes
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, KeptResources, rows, scene, write_photos


def picture(number: int) -> bytes:
    file = io.BytesIO()
    scene(number).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Numbers(Corpus):
    """As a list of URLs: a name, a locator that says where the bytes are, and no size before they are read."""

    kind = "numbers"

    def list(self, passed: PassedOver | None = None, leave_out: Iterable[str] = ()) -> Iterator[Source]:
        for number in range(6):
            yield Source(f"scenes/{number}.png", locator=f"scene:{number}", caption=f"scene {number}")

    def nothing_listed(self) -> str:
        return "no numbers"

    def read(self, source: Source, max_bytes: int) -> Record:
        assert source.locator
        number = int(source.locator.removeprefix("scene:"))
        if number == 4:
            raise Refused("missing", "404")
        return Record(picture(number), source.caption, "not a text" if number == 2 else None)

    def is_as_listed(self, source: Source) -> bool:
        return bool(source.locator)

    def explain(self, error: OSError, source: str = "") -> JobFault | Refused:
        return JobFault("offline")


def test_a_path_with_a_scheme_is_the_path(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 1)
    for scheme in ("file", "local"):
        assert open_corpus(f"{scheme}://{photos}/") == FolderCorpus(str(photos))
        assert open_corpus(f"{scheme}://{photos}/{{0..1}}.tar") == TarCorpus(f"{photos}/{{0..1}}.tar")


def test_ingest_takes_sources_of_another_kind_whose_size_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "open_corpus", lambda address, *_: Numbers(address))
    monkeypatch.setitem(KINDS, Numbers.kind, Numbers)
    for _ in range(2):  # the second time, that the corpus is the one that was listed
        with KeptResources(threads=1) as resources:
            dataset = ingestion.ingest("0..5", str(tmp_path / "dataset"), SMALL, resources, 4)
    listed = [(row["source"], row["locator"], row["size"]) for row in rows(tmp_path / "dataset", "sources")]
    assert listed == [(f"scenes/{number}.png", f"scene:{number}", None) for number in range(6)]
    images = rows(tmp_path / "dataset", "images")
    assert [(row["source"], row["caption"], row["caption_error"]) for row in images] == [
        (f"scenes/{number}.png", f"scene {number}", "not a text" if number == 2 else None) for number in (0, 1, 2, 3, 5)
    ]
    assert images[0]["key"] == row_key("scenes/0.png", sha256_bytes(picture(0)))
    assert [(row["source"], row["reason"]) for row in rows(tmp_path / "dataset", "rejected")] == [
        ("scenes/4.png", "missing")
    ]
    assert dataset.config.segments[0].corpus == "numbers"
    assert not list(verify(dataset))


def test_a_segment_says_its_kind_and_where_it_is_stays_on_this_machine(tmp_path: Path) -> None:
    photos, address = write_photos(tmp_path / "photos", 2), tmp_path / "dataset"
    with KeptResources(threads=1) as resources:
        ingestion.ingest(str(photos), str(address), SMALL, resources, 4)
        (segment,) = json.loads((address / "dataset.json").read_text())["segments"]
        assert segment["corpus"] == "folder"
        assert str(photos) not in (address / "dataset.json").read_text()
        assert Dataset.open(address).corpora == [str(photos)]
        record = (address / "dataset.json").read_text().replace('"folder"', '"cloud"')
        (address / "dataset.json").write_text(record)
        with pytest.raises(MillError, match="listed from a corpus of kind cloud, which this ControlMill does not read"):
            ingestion.ingest(str(photos), str(address), SMALL, resources, 4)


def test_a_corpus_travels_to_workers_and_is_a_key_of_what_they_keep() -> None:
    for corpus in (FolderCorpus("photos"), Numbers("0..5")):
        assert pickle.loads(pickle.dumps(corpus)) == corpus
        assert {corpus: 1}[type(corpus)(corpus.address)] == 1
    assert open_corpus("photos") == FolderCorpus("photos")


def test_a_source_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    corpus = FolderCorpus(str(tmp_path))
    for source in ("/etc/hostname", "../x.png", "a/../../x.png"):
        assert not corpus.is_as_listed(Source(source))
        with pytest.raises(Refused, match="not a path below the corpus"):
            corpus.read(Source(source, size=1), 100)
