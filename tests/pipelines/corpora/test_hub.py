"""Data sets of the Hub, from one on loopback: one commit of it is listed and read, whatever comes after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from controlmill.pipelines import growing
from controlmill.pipelines.corpora import parquet
from controlmill.pipelines.corpora.hub import commit_of, pinned
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.pipelines.corpora.passed_over import PassedOver
from controlmill.pipelines.ingestion import at_commit
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from tests.helpers import command, write_photos
from tests.pipelines.corpora.loopback_hub import Hub, running_hub
from tests.pipelines.corpora.test_parquet import Inline, write
from tests.pipelines.corpora.test_tar import MANY, picture, write_tar
from tests.pipelines.growing_datasets import cut_at

ADDRESS = "hf://datasets/owner/name"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        template = f"{constants.ENDPOINT}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(parquet, "LayoutCheck", lambda _: Inline())
        huggingface_hub.HfFileSystem.clear_instance_cache()
        yield hub
        huggingface_hub.HfFileSystem.clear_instance_cache()


def read(address: str) -> list[tuple[str, bytes, str | None]]:
    corpus = open_corpus(address)
    sources = list(corpus.list(PassedOver()))
    assert all(corpus.is_as_listed(source) for source in sources)
    records = [(source.source, corpus.read(source, MANY)) for source in sources]
    return [(name, record.data, record.caption) for name, record in records]


def test_pictures_tables_and_archives_are_read(hub: Hub, tmp_path: Path) -> None:
    one, two = picture(1), picture(2)
    tar = write_tar(tmp_path / "x.tar", [("1.png", one), ("1.txt", b"one")]).read_bytes()
    table = write(tmp_path / "x.parquet", {"image": [{"bytes": two, "path": "2.png"}], "text": ["two"]}).read_bytes()
    hub.commit({"README.md": b"#", ".gitattributes": b"", "train/1.png": one, "train/1.txt": b"one", "2.png": two})
    assert read(ADDRESS) == [("2.png", two, None), ("train/1.png", one, "one")]
    hub.commit({"README.md": b"#", "data/x.parquet": table})
    assert read(ADDRESS) == [("2.png", two, "two")]
    hub.commit({"data/x.parquet": table, "tars/x.tar": tar})
    assert read(f"{ADDRESS}/tars/*.tar") == [("1.png", one, "one")]
    assert read(f"{ADDRESS}/tars") == [("1.png", one, "one")]
    with pytest.raises(MillError, match=r"1 Parquet files, 1 tar archives, 0 pictures: say which you mean"):
        open_corpus(ADDRESS)
    hub.commit({"data.arrow": b""})
    with pytest.raises(MillError, match=r"0 pictures, but other files \(\.arrow 1\)"):
        open_corpus(ADDRESS)


def test_a_listing_is_of_one_commit(hub: Hub) -> None:
    first = hub.commit({"1.png": picture(1)})
    corpus = open_corpus(ADDRESS)
    assert corpus.address == f"{ADDRESS}@{first}"
    assert corpus.listed_with() == {"commit": first}
    (source,) = corpus.list()
    second = hub.commit({"1.png": picture(2), "2.png": picture(3)})
    assert corpus.read(source, MANY).data == picture(1)
    assert pinned(ADDRESS) == f"{ADDRESS}@{second}"
    assert pinned(ADDRESS, first) == corpus.address
    assert commit_of(pinned(f"{ADDRESS}@main/x/*.tar")) == second
    assert [source.source for source in open_corpus(f"{ADDRESS}@{first}").list()] == ["1.png"]


def test_a_dataset_goes_on_with_the_commit_that_it_was_listed_from(hub: Hub, tmp_path: Path) -> None:
    first = hub.commit({"1.png": picture(1)})
    second = hub.commit({"2.png": picture(2)})
    photos, dataset = write_photos(tmp_path / "photos", 1), str(tmp_path / "dataset")
    assert at_commit(ADDRESS, dataset, []) == ADDRESS
    assert command("ingest", str(photos), dataset, "--resolution", "64").returncode == 0
    record = json.loads((tmp_path / "dataset/dataset.json").read_text())
    record["segments"][0]["listed_with"] = {"commit": first}
    (tmp_path / "dataset/dataset.json").write_text(json.dumps(record))
    assert at_commit(ADDRESS, dataset, []) == f"{ADDRESS}@{first}"
    assert at_commit(f"{ADDRESS}@main/x/*.tar", dataset, []) == f"{ADDRESS}@{first}/x/*.tar"
    assert at_commit(f"{ADDRESS}@{second}", dataset, []) == f"{ADDRESS}@{second}"
    hub.history = [second]  # it was written anew
    assert at_commit(f"{ADDRESS}@main", dataset, []) == f"{ADDRESS}@{second}"
    assert at_commit(ADDRESS, dataset, ["images"]) == ADDRESS


def test_an_extend_that_was_stopped_goes_on_with_its_commit(hub: Hub, tmp_path: Path) -> None:
    first = hub.commit({"1.png": picture(5)})  # no other test's, whose hub this process would ask
    dataset = str(tmp_path / "dataset")
    branch, tars = f"{ADDRESS}@main", f"{ADDRESS}/tars"
    assert command("ingest", str(write_photos(tmp_path / "photos", 1)), dataset, "--resolution", "64").returncode == 0
    with pytest.MonkeyPatch.context() as cut:
        cut_at(cut, growing, "make_images", 2)
        command("extend", dataset, ADDRESS)
    hub.commit({"1.png": picture(1), "2.png": picture(2)})
    found = [growing.as_begun(Dataset.open(dataset), address) for address in (ADDRESS, branch, tars, "photos")]
    assert found == [f"{ADDRESS}@{first}", branch, tars, "photos"]
    (tmp_path / "dataset/_growing.json").unlink()
    assert growing.as_begun(Dataset.open(dataset), ADDRESS) == ADDRESS


def test_what_is_not_there_is_said(hub: Hub) -> None:
    with pytest.raises(MillError, match=r"needs: hf auth login"):
        open_corpus("hf://datasets/owner/nothing")
    for address in ("hf://owner/name", "hf://datasets/name", "hf://spaces/owner/name/x"):
        with pytest.raises(MillError, match="write hf://datasets/OWNER/NAME"):
            open_corpus(address)
