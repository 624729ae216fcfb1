"""Corpora, jobs and digests for tests; annotators that go wrong on purpose."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer.main
from PIL import Image

from controlmill.__main__ import main
from controlmill.annotators.base import Annotation, Annotator, Network
from controlmill.annotators.catalogue import Choice, parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, ingestion, planning
from controlmill.pipelines.engine.messages import Engine
from controlmill.pipelines.engine.process import JobProcess, Resources
from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import sha256_file
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.terminal.console import output

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc, which other systems lack")
SMALL = IngestConfig(resolution=128, limits=Limits(max_pixels=1_000_000, min_side=16))
# a command's words for what `make` does
WORDS = ("--conditions", "canny,hough=lsd,cartoon=standard", "--resolution", "128", "--min-side", "16")
LIMITS = ("--max-megapixels", "1", "--shard-size", "4")
SMALL_WORDS = ("--resolution", "128", "--min-side", "16", "--shard-size", "4")
RED, GREEN = (250, 10, 10), (10, 250, 10)


def scene(seed: int, width: int = 160, height: int = 128) -> Image.Image:
    """A picture with edges and smooth parts, the same for the same seed."""
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.zeros((height, width, 3), np.float64)
    for channel in range(3):
        pixels[..., channel] = 128 + 60 * np.sin(across / rng.uniform(8, 30)) + 50 * np.cos(down / rng.uniform(8, 30))
    for _ in range(6):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        pixels[y : y + int(rng.integers(8, 60)), x : x + int(rng.integers(8, 60))] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(folder: Path, count: int = 10, poison: Mapping[int, tuple[int, int, int]] | None = None) -> Path:
    """``count`` pictures in several formats and folders, half with captions; those in ``poison`` are of one colour."""
    for number in range(count):
        path = folder / f"part{number % 3}" / f"{number:03d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if poison and number in poison:
            Image.new("RGB", (160, 128), poison[number]).save(path.with_suffix(".png"))
            continue
        ending = (".jpg", ".png", ".webp", ".JPEG")[number % 4]
        scene(number).save(f"{path}{ending}", **({"quality": 90} if ending != ".png" else {}))
        if number % 2:
            path.with_suffix(".txt").write_text(f"scene {number}", "utf-8")
    return folder


def write_hostile(folder: Path) -> int:
    """Files that must be refused; how many."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole.jpg"
    scene(1).save(whole)
    data = whole.read_bytes()
    whole.unlink()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "text.png").write_text("hello", "utf-8")
    (folder / "empty.webp").write_bytes(b"")
    return 3


def begun(dataset: Dataset, run: str) -> Dataset:
    """The dataset, with the folder of a run: nothing is written for one that has none."""
    Path(dataset.storage.path(f"_run/{run}/scratch")).mkdir(parents=True)
    return dataset


class KeptResources(Resources):
    """Resources whose job process is kept for the next job, since starting one takes seconds."""

    processes: ClassVar[dict[Engine, JobProcess]] = {}

    def __init__(self, engine: Engine | None = None, threads: int = 0) -> None:
        super().__init__(engine, threads)
        self.process = self.processes.setdefault(self.process.engine, self.process)

    def __exit__(self, *_: object) -> None:
        pass

    @classmethod
    def end(cls) -> None:
        """End the processes."""
        while cls.processes:
            cls.processes.popitem()[1].end()


class KeptPool:
    """Stands where a :class:`LayoutCheck` has a pool of its own: one for all, since starting its process takes long."""

    kept: ClassVar[ProcessPoolExecutor | None] = None

    def __init__(self, *given: Any) -> None:
        self._given = given

    def submit(self, *work: Any) -> Future[Any]:
        if KeptPool.kept:
            with contextlib.suppress(BrokenProcessPool):
                return KeptPool.kept.submit(*work)
        KeptPool.kept = ProcessPoolExecutor(*self._given)
        return KeptPool.kept.submit(*work)

    def shutdown(self) -> None:
        """It goes on."""


def end_kept() -> None:
    """End the processes that are kept."""
    KeptResources.end()
    if KeptPool.kept:
        KeptPool.kept.shutdown()
        KeptPool.kept = None


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """What takes long to make and is the same each time is made once: the pool's process, and the commands."""
    with (
        mock.patch("controlmill.schemas.files.layout.ProcessPoolExecutor", KeptPool),
        mock.patch("typer.main.get_command", functools.cache(typer.main.get_command)),
    ):
        yield


def make(
    photos: Path,
    dataset: Path,
    conditions: str | Sequence[Choice] = "canny,hough=lsd,cartoon=standard",
    engine: Engine | None = None,
    shard_size: int | None = 4,
    config: IngestConfig = SMALL,
    place: Placement | None = None,
    threads: int = 1,
) -> Dataset:
    """Ingest and annotate, as the command does; with an engine that is given, in a process of its own."""
    choices = parse_conditions(conditions) if isinstance(conditions, str) else list(conditions)
    plan = planning.plan_conditions(choices, planning.everywhere(place or Placement()), None)
    with Resources(engine, threads) if engine else KeptResources(threads=threads) as resources:
        ingestion.ingest(str(photos), str(dataset), config, resources, shard_size)
        return annotation.annotate(str(dataset), plan, resources)


def digests(dataset: Path) -> dict[str, str]:
    """sha256 of every file."""
    files = (path for path in sorted(dataset.rglob("*")) if path.is_file())
    return {str(path.relative_to(dataset)): sha256_file(path) for path in files}


def rows(dataset: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table."""
    return [
        row for path in sorted((dataset / table).rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()
    ]


def places(dataset: Path) -> list[tuple[int, int]]:
    """(shard, row) of every picture, in the order of :func:`rows`."""
    files = sorted((dataset / "images").rglob("*.parquet"))
    return [(int(path.stem), row) for path in files for row in range(pq.ParquetFile(path).metadata.num_rows)]


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit status, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def command(*words: str) -> Ended:
    """Run controlmill in this process, which spares the seconds that imports take; its jobs run in a kept process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch("sys.argv", ["controlmill", *words]),
        mock.patch("controlmill.pipelines.engine.process.Resources", KeptResources),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        finally:
            output.begin(quiet=False, log_file=None)
    assert isinstance(status, int)
    return Ended(status, out.getvalue(), err.getvalue())


def command_in_new_process(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run controlmill as a user does, with options of :func:`subprocess.run`."""
    options = {"capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run([sys.executable, "-m", "controlmill", *words], check=False, **options)


def is_colour(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether a picture is of one colour, give or take JPEG."""
    return bool(np.abs(image.astype(int) - colour).max() < 12)


class Halves(Network):
    """Halves the pixels; fails on batches with a red picture, kills its process on a green one."""

    name: ClassVar[str] = "halves"
    weights: ClassVar[tuple[Any, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, files: Mapping[str, Path], place: Placement) -> None:
        self.place = place

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        return image

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert len(batch) == self.place.batch_size, "a batch is always full"
        for image in batch:
            if is_colour(image, RED):
                raise ValueError("a red picture")
            if is_colour(image, GREEN):
                os.kill(os.getpid(), signal.SIGKILL)
        return [image // 2 for image in batch]


@dataclass(frozen=True)
class Fragile(Annotator):
    """The first channel of Halves."""

    condition: ClassVar[str] = "cartoon"
    variant: ClassVar[str] = "fragile"
    network: ClassVar[type[Network] | None] = Halves
    packages: ClassVar[tuple[str, ...]] = ()

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        return Annotation(np.ascontiguousarray(output[..., 0]))


FRAGILE = Choice("cartoon", "fragile", "tests.helpers:Fragile")
