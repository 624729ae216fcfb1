"""The jobs on a GPU: two shards in flight against one, the choice of a batch, and what happens without memory.

HED with random weights over pictures of smooth noise, through Beam's embedded runner in this process.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu import weights
from benchmarks.gpu.annotators import picture
from benchmarks.gpu.cases import Case, Setting
from controlmill.annotators.base import Annotation, Annotator, Network
from controlmill.annotators.catalogue import Choice, parse_conditions
from controlmill.annotators.plan import find_weights
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import batching, ingestion, planning
from controlmill.pipelines.engine.engines import open_engine
from controlmill.pipelines.engine.graphs import Graphs
from controlmill.pipelines.engine.messages import Engine
from controlmill.pipelines.engine.process import Resources
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import Job, run_shard
from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import sha256_file

PICTURES, SIDE, SHARD = 512, 512, 64
TOY_PICTURES, TOY_SIDE, TOY_SHARD = 4, 64, 2
BATCH, TOY_BATCH = 16, 2
LITTLE_MEMORY = 1.5 * 2**30  # bytes, in which BATCH pictures do not fit
ADVICE = "choose a smaller --batch-size"


def cases(setting: Setting) -> list[Case]:
    """The cases in the order of their worth."""
    bench = Bench(setting)
    dtypes = ("fp32",) if setting.toy else ("bf16", "fp32")
    return [
        *(Case(f"shards in flight, hed {dtype}", functools.partial(bench.in_flight, dtype)) for dtype in dtypes),
        Case("out of memory", bench.out_of_memory),
        *(Case(f"choice of a batch, hed {dtype}", functools.partial(bench.choice, dtype)) for dtype in dtypes),
    ]


class Bench:
    """A dataset of pictures, and HED's weights."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.count, self.side, self.shard = (
            (TOY_PICTURES, TOY_SIDE, TOY_SHARD) if setting.toy else (PICTURES, SIDE, SHARD)
        )
        self.batch = TOY_BATCH if setting.toy else BATCH
        self.threads = setting.threads
        self.choices = parse_conditions("hed")

    @functools.cached_property
    def dataset(self) -> Dataset:
        """Made by `ingest` when it is first asked for."""
        photos = self.setting.scratch / "photos"
        photos.mkdir(exist_ok=True)
        for number in range(self.count):
            Image.fromarray(picture(number, self.side)).save(photos / f"{number:04d}.jpg", quality=90)
        with Resources(threads=self.threads) as resources:
            config = IngestConfig(resolution=self.side)
            return ingestion.ingest(str(photos), str(self.setting.scratch / "dataset"), config, resources, self.shard)

    @functools.cached_property
    def weights(self) -> str:
        """The folder, filled when it is first asked for."""
        folder = self.setting.scratch / "weights"
        folder.mkdir(exist_ok=True)
        network = self.choices[0].build().network
        assert network is not None
        weights.write(network, folder)
        return str(folder)

    def in_flight(self, dtype: str) -> dict[str, Any]:
        """Pictures per second with one shard in flight and with two, and whether the bytes are the same."""
        place = Placement(self.setting.device, dtype, self.batch, threads=self.threads)
        speeds, files = {}, []
        with open_engine(Engine()) as graphs:
            self.annotate(place, graphs, 1)  # loads the network
            for shards in (1, 2):
                speeds[shards] = self.count / self.annotate(place, graphs, shards)
                files.append(table_digests(self.dataset, "hed"))
        return {
            "pictures_per_second,_one_shard": speeds[1],
            "two_shards": speeds[2],
            "gain": speeds[2] / speeds[1],
            "same_bytes": files[0] == files[1],
        }

    def annotate(self, place: Placement, graphs: Graphs, shards: int) -> float:
        """Seconds of the job over the whole dataset."""
        with self.job(self.choices, place, self.weights, shards) as (job, run):
            started = time.perf_counter()
            graphs.run(job, range(self.dataset.shards))
            seconds = time.perf_counter() - started
            if failures := run.failures():
                raise RuntimeError(str(failures))
        return seconds

    @contextmanager
    def job(
        self, choices: Sequence[Choice], place: Placement, folder: str | None, shards: int = 1
    ) -> Iterator[tuple[Job, Run]]:
        """An annotate job whose tables are yet to be made."""
        (stage,) = planning.plan_conditions(choices, planning.everywhere(place), folder)
        for table in stage.outputs():
            self.dataset.drop(table)
        run = Run.start(self.dataset.storage)
        yield Job(self.dataset.storage, run.id, stage, stage.outputs(), self.threads, shards), run
        run.end()

    def out_of_memory(self) -> dict[str, Any]:
        """A batch that does not fit ends the job with advice; nothing is committed, and no smaller batch is tried."""
        place = Placement(self.setting.device, "fp32", self.batch, threads=self.threads)
        choices, folder = (self.choices, self.weights) if self.setting.on_gpu else ([FULL], None)
        with little_memory(self.setting), self.job(choices, place, folder) as (job, run):
            status = run_shard(job, 0)["status"]
            text = str(run.failures())
            (table,) = job.outputs
        return {
            "status": status,
            "advice_given": ADVICE in text,
            "committed": len(self.dataset.committed(table)),
            "smaller_batches_tried": Full.smaller,
        }

    def choice(self, dtype: str) -> dict[str, Any]:
        """The batch that `--batch-size auto` measures, and what measuring takes."""
        network = self.choices[0].build().network
        assert network is not None
        found = {file.name: file for file in find_weights(self.choices, self.weights)}
        started = time.perf_counter()
        batch = batching.measured(network, found, Placement(self.setting.device, dtype), self.side // 2)
        return {"batch": batch, "seconds_to_choose": time.perf_counter() - started}


@contextmanager
def little_memory(setting: Setting) -> Iterator[None]:
    """Leave PyTorch a little of the GPU's memory."""
    if not setting.on_gpu:
        yield
        return
    total = torch.cuda.get_device_properties(setting.device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, LITTLE_MEMORY / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def table_digests(dataset: Dataset, table: str) -> list[str]:
    """sha256 of a table's files, in order."""
    folder = Path(dataset.storage.address) / table
    return [sha256_file(path) for path in sorted(folder.rglob("*.parquet"))]


class Full(Network):
    """Where there is no GPU: a network that no batch fits."""

    name: ClassVar[str] = "full"
    weights: ClassVar[tuple[Any, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    smaller: ClassVar[int] = 0

    def __init__(self, files: Mapping[str, Path], place: Placement):
        self.place = place

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """The picture itself."""
        return image

    def forward(self, batch: Sequence[np.ndarray]) -> list[Any]:
        """Raise what PyTorch raises."""
        Full.smaller += len(batch) < self.place.batch_size
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@dataclass(frozen=True)
class FullLines(Annotator):
    """The annotator of it."""

    condition: ClassVar[str] = "cartoon"
    variant: ClassVar[str] = "full"
    network: ClassVar[type[Network] | None] = Full
    packages: ClassVar[tuple[str, ...]] = ()

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """Never called: the network has raised before."""
        raise AssertionError("a map is made though the network's memory is full")


FULL = Choice("cartoon", "full", "benchmarks.gpu.jobs:FullLines")
