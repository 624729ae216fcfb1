"""What a job does with rows, workers and engines that fail."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import ingestion
from controlmill.pipelines.engine import process
from controlmill.pipelines.engine.messages import Engine
from controlmill.schemas.errors import MillError
from controlmill.schemas.views.verify import verify
from tests.helpers import FRAGILE, GREEN, RED, SMALL, make, rows, write_photos

PAIRS = Placement(batch_size=2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Key → map of ten pictures of which none does harm."""
    folder = tmp_path_factory.mktemp("undisturbed")
    make(write_photos(folder / "photos", 10), folder / "dataset", [FRAGILE], place=PAIRS)
    return {row["key"]: row["map"]["bytes"] for row in rows(folder / "dataset", "cartoon")}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_that_kills_its_process_is_refused_and_the_rest_goes_on(
    tmp_path: Path, workers: int, undisturbed: dict[str, bytes]
) -> None:
    photos = write_photos(tmp_path / "photos", 10, poison={4: GREEN})
    made = make(photos, tmp_path / "dataset", [FRAGILE], Engine(workers=workers), place=PAIRS)
    found = rows(tmp_path / "dataset", "cartoon")
    refused = [row for row in found if row["map"] is None]
    assert [(row["reason"], row["error"]) for row in refused] == [
        ("killed_worker", "its process died 2 times (signal 9)")
    ]
    assert not list(verify(made))
    assert all(row["map"]["bytes"] == undisturbed[row["key"]] for row in found if row["map"])
    assert len(found) == 10


def test_one_bad_row_in_a_batch_of_eight_is_one_null(tmp_path: Path) -> None:
    place = Placement(batch_size=8)
    make(
        write_photos(tmp_path / "photos", 8, poison={3: RED}),
        tmp_path / "dataset",
        [FRAGILE],
        place=place,
        shard_size=8,
    )
    make(write_photos(tmp_path / "clean", 8), tmp_path / "undisturbed", [FRAGILE], place=place, shard_size=8)
    found = rows(tmp_path / "dataset", "cartoon")
    refused = [row for row in found if row["map"] is None]
    assert [(row["reason"], row["error"]) for row in refused] == [("failed", "ValueError: a red picture")]
    others = {row["key"]: row["map"]["bytes"] for row in rows(tmp_path / "undisturbed", "cartoon")}
    assert sum(row["map"]["bytes"] == others[row["key"]] for row in found if row["map"]) == 7


def test_an_annotator_that_fails_on_every_row_stops_the_job(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 8, poison=dict.fromkeys(range(8), RED))
    with pytest.raises(MillError, match="the annotator is at fault: ValueError: a red picture"):
        make(photos, tmp_path / "dataset", [FRAGILE], place=Placement(batch_size=4), shard_size=8)
    assert not (tmp_path / "dataset" / "cartoon").exists()


def test_work_that_an_engine_loses_silently_is_an_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.JobProcess, "run", lambda *_: 0)
    with pytest.raises(MillError, match="ended without an error, but 4 of 4 shards"):
        ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, process.Resources(), 4)


def test_work_that_is_lost_with_a_part_of_the_cluster_names_that_part(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"

        def lose(*_: object) -> int:
            server.close()
            return 0

        monkeypatch.setattr(process.JobProcess, "run", lose)
        resources = process.Resources(Engine("PortableRunner", options=(f"job_endpoint={place}",)))
        with pytest.raises(MillError, match=rf"(?s)ended without an error, .*\nthe job server at {place} cannot be"):
            ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, resources, 4)


def test_an_engine_that_fails_is_reported_in_its_own_words(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(MillError, match="NoSuchRunner failed"):
        make(photos, tmp_path / "dataset", engine=Engine("NoSuchRunner"))
