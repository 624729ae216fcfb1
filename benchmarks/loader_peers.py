"""The readers that the trainer's loader is measured against, and copies of a dataset's rows for those with own files.

Pictures, canny maps and captions are decoded by the same two calls everywhere; all shuffle.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
from torch.utils.data import DataLoader, IterableDataset, default_collate

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import decode_image, decode_map
from controlmill.schemas.names import shard_file

BATCH = 16
SHUFFLED = 256  # rows that these mix; ours mixes 64 places of the whole


def decoded(image: bytes, canny: bytes, caption: str) -> dict[str, Any]:
    """The same calls as the loader's."""
    return {"image": decode_image(image), "canny": decode_map("binary", canny), "caption": caption}


def stored_rows(dataset: Dataset, shard: int) -> Iterator[tuple[bytes, bytes, str]]:
    """(image, map, caption) of a shard's rows, as they are stored."""
    with dataset.parquet("images", shard) as images, dataset.parquet("canny", shard) as canny:
        pairs = zip(images.read().to_pylist(), canny.read(columns=["map.bytes"]).to_pylist(), strict=True)
        yield from ((image["image"]["bytes"], row["map"]["bytes"], image["caption"]) for image, row in pairs)


def write_tars(dataset: Dataset, folder: Path) -> None:
    """The rows as webdataset's tar files."""
    folder.mkdir()
    for shard in range(dataset.shards):
        with tarfile.open(folder / f"{shard:04d}.tar", "w") as tar:
            for row, parts in enumerate(stored_rows(dataset, shard)):
                for ending, data in zip(("jpg", "png", "txt"), (*parts[:2], parts[2].encode()), strict=True):
                    member = tarfile.TarInfo(f"{row:06d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def write_mds(dataset: Dataset, folder: Path) -> None:
    """The rows as mosaicml-streaming's MDS files."""
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"image": "bytes", "canny": "bytes", "caption": "str"}) as writer:
        for shard in range(dataset.shards):
            for image, canny, caption in stored_rows(dataset, shard):
                writer.write({"image": image, "canny": canny, "caption": caption})


class Endless(IterableDataset):
    """Epoch after epoch of another dataset, in a worker."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        cv2.setNumThreads(1)
        for epoch in itertools.count():
            if hasattr(self.rows, "set_epoch"):
                self.rows.set_epoch(epoch)
            yield from self.rows


def from_hugging_face(address: str) -> Any:
    """`datasets` streaming: the two tables side by side, shard for shard, so that workers share the shards."""
    from datasets import concatenate_datasets, load_dataset

    dataset = Dataset.open(address)
    shards = []
    for shard in range(dataset.shards):
        tables = []
        for table, columns in (("images", ["image", "caption"]), ("canny", ["map"])):
            files = str(Path(address, shard_file(table, shard)))
            rows = load_dataset("parquet", data_files=files, split="train", streaming=True, columns=columns)
            tables.append(rows.decode(False))
        shards.append(concatenate_datasets(tables, axis=1))
    return concatenate_datasets(shards).shuffle(seed=0, buffer_size=SHUFFLED)


class Zipped:
    """Streams of equal order, row by row; for `datasets` much faster than its own joining."""

    def __init__(self, streams: list[Any]):
        self.streams = streams

    def set_epoch(self, epoch: int) -> None:
        """The same for all."""
        for stream in self.streams:
            stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for parts in zip(*self.streams, strict=True):
            yield {name: value for part in parts for name, value in part.items()}


def from_hugging_face_zipped(address: str) -> Any:
    """`datasets` streaming, a stream for each table, shuffled alike."""
    from datasets import load_dataset

    dataset = Dataset.open(address)
    streams = []
    for table, columns in (("images", ["image", "caption"]), ("canny", ["map"])):
        files = [str(Path(address, shard_file(table, shard))) for shard in range(dataset.shards)]
        rows = load_dataset("parquet", data_files=files, split="train", streaming=True, columns=columns)
        streams.append(rows.decode(False).shuffle(seed=0, buffer_size=SHUFFLED))
    return Zipped(streams)


def from_tars(address: str) -> Any:
    """webdataset, as its guide has it."""
    import webdataset

    names = sorted(str(path) for path in Path(address).glob("*.tar"))
    rows = webdataset.WebDataset(names, shardshuffle=len(names), nodesplitter=None).shuffle(SHUFFLED)
    return rows.to_tuple("jpg", "png", "txt")


def from_mds(address: str) -> Any:
    """mosaicml-streaming on local files."""
    from streaming import StreamingDataset

    return StreamingDataset(local=address, shuffle=True, batch_size=BATCH)


def hugging_face_batch(rows: list[dict[str, Any]]) -> Any:
    """Decoded and stacked, in a worker."""
    return default_collate([decoded(row["image"]["bytes"], row["map"]["bytes"], row["caption"]) for row in rows])


def tar_batch(rows: list[tuple[bytes, bytes, bytes]]) -> Any:
    """Decoded and stacked, in a worker."""
    return default_collate([decoded(image, canny, caption.decode()) for image, canny, caption in rows])


def mds_batch(rows: list[dict[str, Any]]) -> Any:
    """Decoded and stacked, in a worker."""
    return default_collate([decoded(**row) for row in rows])


PEERS: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
    "datasets": (from_hugging_face, hugging_face_batch),
    "datasets, zipped by hand": (from_hugging_face_zipped, hugging_face_batch),
    "webdataset": (from_tars, tar_batch),
    "mosaicml-streaming": (from_mds, mds_batch),
}


def peer(name: str, address: str, workers: int) -> Iterator[Any]:
    """Batches of a peer through PyTorch's DataLoader."""
    rows, batch = PEERS[name]
    loader: Any = DataLoader(
        Endless(rows(address)), BATCH, num_workers=workers, collate_fn=batch, multiprocessing_context="spawn"
    )
    return iter(loader)


def copies(dataset: Path) -> dict[str, Path]:
    """What each of the others reads; those that are not installed are left out, and that is said."""
    folders = {name: dataset if "datasets" in name else dataset.with_name(f"{dataset.name}-{name}") for name in PEERS}
    opened = Dataset.open(dataset)
    for name, module, write in (
        ("webdataset", "webdataset", write_tars),
        ("mosaicml-streaming", "streaming", write_mds),
    ):
        if importlib.util.find_spec(module) is None:
            print(f"{name} is not installed, its row is left out; benchmarks/loader.py says how to install it")
            del folders[name]
        elif not folders[name].exists():
            scratch = folders[name].with_suffix(".writing")
            shutil.rmtree(scratch, ignore_errors=True)
            write(opened, scratch)
            scratch.rename(folders[name])
    return folders
