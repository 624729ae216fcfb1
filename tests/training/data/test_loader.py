"""The loader: aligned batches in a fixed order, each row group read once, clear errors."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import ShardFile
from controlmill.schemas.maps.transforms import Augment
from controlmill.schemas.names import shard_file
from controlmill.training.data import processes
from controlmill.training.data.loader import Loader, LoaderConfig
from controlmill.training.data.order import LANES
from controlmill.training.data.selection import LOCATION, Selection, check_tables, select
from tests.scenes import ALL_MAPS, SCENES


def make_loader(dataset: Dataset, conditions: tuple[str] = ("canny",), threads: int = 2, **changes: Any) -> Loader:
    return Loader(
        dataset,
        check_tables(dataset, conditions),
        select(dataset, conditions),
        LoaderConfig(**{"seed": 3, "batch_size": 10, **changes}),
        threads,
    )


def first(batches: Iterator[Any], count: int) -> list[Any]:
    return list(itertools.islice(batches, count))


def identity(batch: Any) -> list[tuple[Any, ...]]:
    return [(s.epoch, s.row, s.caption, s.image.tobytes(), *(m.tobytes() for m in s.maps.values())) for s in batch]


def test_all_conditions_come_aligned_with_their_picture(scenes_dataset: Dataset) -> None:
    loader = make_loader(scenes_dataset, ALL_MAPS)
    batch = first(loader.batches(), 1)[0]
    for sample in batch:
        assert set(sample.maps) == set(ALL_MAPS)
        assert {array.shape[:2] for array in sample.maps.values()} == {sample.image.shape[:2]} == {(64, 64)}
        assert " ground" in sample.caption
    assert {name: batch[0].maps[name].dtype.name for name in ("depth", "canny")} == {
        "depth": "uint16",
        "canny": "uint8",
    }


def test_from_any_step_batches_are_the_same(scenes_dataset: Dataset) -> None:
    loader = make_loader(scenes_dataset, augment=Augment(crop=48, mirror=True))
    everything = [identity(batch) for batch in first(loader.batches(), 25)]
    assert [identity(batch) for batch in first(loader.batches(17), 8)] == everything[17:]
    seen = [row for batch in everything for epoch, row, *_ in batch if epoch == 0]
    assert len(seen) == len(set(seen)) == SCENES


@pytest.mark.parametrize("workers", [1, 2])
def test_reader_processes_do_not_change_batches(scenes_dataset: Dataset, workers: int) -> None:
    loader = make_loader(scenes_dataset, threads=1)
    expected = [identity(batch) for batch in first(loader.batches(2), 4)]
    assert [identity(batch) for batch in first(processes.batches(loader, 2, workers=workers), 4)] == expected


def test_ranks_share_each_batch(scenes_dataset: Dataset) -> None:
    loader = make_loader(scenes_dataset)
    whole = identity(first(loader.batches(), 1)[0])
    parts = [identity(first(loader.batches(0, rank, 2), 1)[0]) for rank in range(2)]
    assert [parts[i % 2][i // 2] for i in range(len(whole))] == whole


class Many(Dataset):
    """In memory, one file of many row groups of 8."""

    GROUPS, ROWS = 80, 8

    def __init__(self, wide: int = 0) -> None:
        """Pictures are 8×8; every so many of them, beginning with the first, are twice as wide."""
        keys = [str(row) for row in range(self.GROUPS * self.ROWS)]
        widths = np.full(len(keys), 8)
        if wide:
            widths[::wide] = 16
        made = {width: self.made(width) for width in (8, 16)}
        self.open_bytes = LANES * self.ROWS * sum(len(stored["bytes"]) for stored in made[8])
        self.files = {}
        for number, (table, column) in enumerate((("images", "image"), ("canny", "map"))):
            rows = [
                {"key": key, column: made[width][number], "caption": key}
                for key, width in zip(keys, widths, strict=True)
            ]
            pq.write_table(pa.Table.from_pylist(rows), file := io.BytesIO(), row_group_size=self.ROWS)
            self.files[table] = file
        self.train = np.zeros(len(keys), LOCATION)
        self.train["row"] = np.arange(len(keys))
        self.train["group"] = self.train["row"] // self.ROWS
        self.train["height"], self.train["width"] = 8, widths

    @staticmethod
    def made(width: int) -> Any:
        """A picture and its map."""
        pixels = np.random.default_rng(0).integers(0, 256, (8, width, 3), np.uint8)
        edges = np.where(pixels[..., 0] > 127, 255, 0).astype(np.uint8)
        return [{"bytes": cv2.imencode(".png", array)[1].tobytes(), "path": None} for array in (pixels, edges)]

    def index(self, table: str) -> Any:
        return None

    @contextmanager
    def parquet(self, table: str, shard: int) -> Iterator[Any]:
        yield ShardFile(self.files[table])

    def loader(self, cache_bytes: int, train: np.ndarray | None = None) -> Loader:
        train = self.train if train is None else train
        selection, config = Selection(train, train[:0]), LoaderConfig(seed=3, batch_size=8)
        return Loader(self, {"canny": CONDITIONS["canny"]}, selection, config, cache_bytes=cache_bytes)


def reads(loader: Loader, epochs: int = 2, readers_: int = 1) -> int:
    """(reads of a row group by each reader in an epoch, most bytes that one held)."""
    found, most = [], 0
    for reader in range(readers_):
        rows = loader.reader(loader.turns(reader, readers_))
        for number in range(reader, epochs * len(loader.streams[0]), readers_):
            ((_, index),) = loader.orders[0].samples(number, 1)
            assert rows.take(loader.streams[0][index], [number]).caption == str(index)
            most = max(most, rows.held_bytes)
        found.append(rows.group_reads / epochs / Many.GROUPS)
        assert not rows.held_bytes
    return sum(found), most


def test_each_row_group_is_read_once_an_epoch_where_what_is_to_come_fits() -> None:
    dataset = Many()
    loader = dataset.loader(dataset.open_bytes)
    assert reads(loader)[0] < 1.1
    assert reads(loader, readers_=4)[0] < 2.1  # lanes begin and end within a group


@pytest.mark.parametrize(("share_kept", "times"), [(0.5, 2.0), (0.25, 3.5), (0.0, 8.0)])
def test_where_it_does_not_fit_row_groups_are_read_a_few_times_more_and_that_is_said(
    share_kept: float, times: float
) -> None:
    dataset = Many()
    loader = dataset.loader(max(1, int(share_kept * dataset.open_bytes)))
    found, most = reads(loader, epochs=1)
    assert found <= times
    assert most <= share_kept * dataset.open_bytes
    if share_kept == 0.25:
        assert "each row group is read up to 4 times an epoch" in loader.notes(1)[0]
    assert not dataset.loader(dataset.open_bytes).notes(1)


def test_the_bound_changes_no_batch() -> None:
    batches_of = [
        [identity(batch) for batch in first(Many().loader(bound).batches(3), 85)] for bound in (1, 10_000, 10**9)
    ]
    assert batches_of[0] == batches_of[1] == batches_of[2]


def test_shapes_are_streams_that_share_row_groups() -> None:
    dataset = Many(wide=3)
    loader = dataset.loader(dataset.open_bytes)
    assert [len(stream) for stream in loader.streams] == [426, 214]
    everything = [identity(batch) for batch in first(loader.batches(), 90)]
    assert [identity(batch) for batch in first(dataset.loader(1).batches(70), 20)] == everything[70:]
    seen = [row for batch in everything for epoch, row, *_ in batch if epoch == 0]
    assert len(seen) == len(set(seen)) == len(dataset.train)


def test_a_window_larger_than_the_pictures_is_an_error(scenes_dataset: Dataset) -> None:
    with pytest.raises(MillError, match="--crop-size 65"):
        make_loader(scenes_dataset, augment=Augment(crop=65))


def test_blocks_of_reader_processes_are_used_again_only_when_no_view_is_left(scenes_dataset: Dataset) -> None:
    packer = processes.Packer()
    batch = first(make_loader(scenes_dataset, ALL_MAPS).batches(), 1)[0]
    kept = processes.unpacked(*packer(batch))
    others = processes.unpacked(*packer(batch[::-1]))
    assert len(packer.blocks) == 2
    assert identity(kept) == identity(batch)
    one = others[0].image
    del others
    packer(batch)
    assert len(packer.blocks) == 3
    assert np.array_equal(one, batch[-1].image)
    del one
    packer(batch)
    assert len(packer.blocks) == 3


def test_a_table_that_cannot_be_read_is_one_message_also_from_another_process(
    scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(scenes_folder, copy)
    loader = make_loader(Dataset.open(copy))
    for shard in range(3):
        path = copy / shard_file("canny", shard)
        data = bytearray(path.read_bytes())
        data[4:400] = bytes(396)  # the first page
        path.write_bytes(data)
    monkeypatch.setattr(processes, "get_worker_info", lambda: SimpleNamespace(id=0, num_workers=1))
    packer = processes.Packer()
    with pytest.raises(MillError, match=r"canny/0000/.* is damaged") as found:
        processes.next_share(packer(share) for share in processes.Shares(loader, 0, 0, 1))
    assert "Traceback" not in str(found.value)


@pytest.mark.parametrize("way", ["other settings", "other bytes"])
def test_a_table_that_is_made_anew_while_it_is_read_is_an_error(way: str, scenes_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(scenes_folder, copy)
    batches = make_loader(Dataset.open(copy), batch_size=32).batches()
    next(batches)
    for shard in range(3):
        path = copy / shard_file("canny", shard)
        if way == "other bytes":
            pq.write_table(pq.read_table(path), path, compression="NONE")
        else:
            path.write_bytes(path.read_bytes().replace(b"[150,250]", b"[150,251]"))
    with pytest.raises(MillError, match=r"canny/.* is not the file that it was .* made anew\. Put the old one back"):
        first(batches, 9)
