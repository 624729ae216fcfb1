"""Two shards in flight, forced on a CPU: they do overlap, the bytes are those of one, a network is loaded once."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from controlmill.annotators.base import Network
from controlmill.annotators.catalogue import Choice, parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines.engine import process
from controlmill.pipelines.engine.messages import Engine
from controlmill.pipelines.engine.process import Resources, shards_in_flight
from controlmill.pipelines.stages.annotate import Annotate
from controlmill.schemas.views.verify import verify
from tests.helpers import FRAGILE, GREEN, Fragile, Halves, digests, make, rows, write_photos

LOADS = "CONTROLMILL_TEST_LOADS"  # a folder: each load of the network leaves a file there, and shards must meet
PLACE = Placement(batch_size=2)


class Meeting(Halves):
    """Halves; where ``LOADS`` says so, a thread's first picture waits until another thread of the process has one."""

    name: ClassVar[str] = "meeting"
    barrier = threading.Barrier(2)
    here = threading.local()

    def __init__(self, files: Mapping[str, Path], place: Placement) -> None:
        super().__init__(files, place)
        if LOADS in os.environ:
            time.sleep(0.5)  # so that a second load would have its chance
            Path(os.environ[LOADS], uuid.uuid4().hex).touch()

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        if LOADS in os.environ and not hasattr(self.here, "met"):
            self.barrier.wait(timeout=120)
            self.here.met = True
        return super().preprocess(image)


@dataclass(frozen=True)
class Met(Fragile):
    """The first channel of Meeting."""

    variant: ClassVar[str] = "met"
    network: ClassVar[type[Network] | None] = Meeting


CHOICES = [*parse_conditions("canny"), Choice("cartoon", "met", f"{__name__}:Met")]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(process, "shards_in_flight", lambda *_: 2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("corpus") / "photos", 16)


@pytest.fixture(scope="module")
def one(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what one shard at a time makes."""
    folder = tmp_path_factory.mktemp("one") / "dataset"
    make(pictures, folder, CHOICES, place=PLACE, shard_size=3)
    return digests(folder)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("workers", [0, 1])
def test_two_shards_overlap_and_make_the_same_bytes_with_one_load(
    one: dict[str, str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    (tmp_path / "loads").mkdir()
    monkeypatch.setenv(LOADS, str(tmp_path / "loads"))
    make(pictures, tmp_path / "dataset", CHOICES, Engine(workers=workers), shard_size=3, place=PLACE)
    assert all(row["map"] for row in rows(tmp_path / "dataset", "cartoon"))  # nobody waited in vain
    assert digests(tmp_path / "dataset") == one
    # a cluster's job process loads it too, to see that it can be, before anything begins
    assert len(list((tmp_path / "loads").iterdir())) == (2 if workers else 1)


@pytest.mark.usefixtures("two")
def test_of_two_shards_only_the_row_that_kills_their_process_is_refused(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 6, poison={2: GREEN})
    made = make(photos, tmp_path / "dataset", [FRAGILE], place=PLACE, shard_size=3)
    found = rows(tmp_path / "dataset", "cartoon")
    assert [row["reason"] for row in found if row["map"] is None] == ["killed_worker"]
    assert len(found) == 6
    assert not list(verify(made))


@pytest.mark.parametrize(
    ("devices", "shards"),
    [([], 1), (["cpu"], 1), (["mps"], 1), (["cuda"], 2), (["cuda:1"], 2), (["cpu", "cuda"], 2)],
)
def test_shards_in_flight_follow_from_where_networks_run(devices: list[str], shards: int) -> None:
    assert shards_in_flight(devices, waits=False) == shards
    assert shards_in_flight(devices, waits=True) == 2
    stage = Annotate((), {}, {str(number): Placement(device) for number, device in enumerate(devices)})
    assert Resources().in_flight(stage) == shards
    assert Resources(Engine("FlinkRunner")).in_flight(stage) == 1
