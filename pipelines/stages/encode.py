"""Encode: pictures and captions through a base's encoders, into the caches that training reads (``schemas.caches``).

A stage like annotate's: the same steps, batches, bisection, commit and provenance.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.annotators.runtime.placement import Placement
from controlmill.bases.configuration import location
from controlmill.bases.encoders import ENCODERS, TextEncoder, VaeEncoder, provenance
from controlmill.bases.pixels import signed
from controlmill.schemas.caches import pack
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.tables import CACHES, EMBEDDINGS, LATENTS, TABLES

from ..annotation import images_wanted
from ..engine.mend import mended
from ..engine.rows import BatchStep, JobFault
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Plan, Stage
from ..engine.worker import this_worker
from .aligned import ROW_COLUMNS, aligned_task

VERSION = 1
GPU_BATCH = 8


@dataclass(frozen=True)
class EncodeStep(BatchStep):
    """What both caches share: an encoder that is loaded once per process."""

    base: str
    sha256: str
    place: Placement
    stored: str
    mirror: bool = False

    table = ""

    @property
    def batch_size(self) -> int:
        """The encoder's batch."""
        return self.place.batch_size

    def encoder(self) -> Any:
        """The encoder, loaded."""
        return loaded(self.table, self.base, self.place)

    def prepare(self) -> None:
        """Load the encoder.

        Raises:
            JobFault: it cannot be loaded, or is not the one that the job started with.
        """
        try:
            found = self.encoder().digest
        except MillError as error:
            raise JobFault(str(error)) from error
        if found != self.sha256:
            raise JobFault(f"the base {self.base} is another one here than where the job was started")


@dataclass(frozen=True)
class EncodeImages(EncodeStep):
    """A picture → moments, and those of its mirror image."""

    table = LATENTS

    def cost(self, row: Mapping[str, Any]) -> int:
        """Decoded pixels and their float copies."""
        return int(row["width"] * row["height"] * (27 if self.mirror else 15))

    def load(self, row: Mapping[str, Any]) -> np.ndarray:
        """float32 (3, H, W) in −1 to 1.

        Raises:
            ValueError: the sides are no multiples of the VAE's factor.
        """
        image = decode_image(row["image"]["bytes"], (row["height"], row["width"]))
        factor = self.encoder().factor
        if image.shape[0] % factor or image.shape[1] % factor:
            raise ValueError(
                f"the picture is {image.shape[1]}x{image.shape[0]}, the VAE takes sides in multiples of {factor}"
            )
        return signed(np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32))

    def shape(self, item: np.ndarray) -> Hashable:
        """(height, width)."""
        return item.shape[1:]

    def forward(self, items: list[np.ndarray]) -> list[Any]:
        """(moments, moments of the mirrored picture or None) of a full batch."""
        with this_worker().forward_lock:
            moments = self.encoder().forward(items)
            flipped = [np.ascontiguousarray(item[:, :, ::-1]) for item in items] if self.mirror else []
            mirrored = self.encoder().forward(flipped) if flipped else [None] * len(items)
        return list(zip(moments, mirrored, strict=True))

    def finish(self, row: Mapping[str, Any], item: Any, output: Any) -> dict[str, Any]:
        """The table's row."""
        moments, mirrored = output
        value = {"shape": list(moments.shape), "moments": pack(moments, self.stored)}
        return {self.table: {**value, "mirrored": None if mirrored is None else pack(mirrored, self.stored)}}


@dataclass(frozen=True)
class EncodeCaptions(EncodeStep):
    """A caption → its embedding; no caption → a null, which stands for the empty prompt's."""

    table = EMBEDDINGS

    def cost(self, row: Mapping[str, Any]) -> int:
        """About what an embedding takes."""
        return 1 << 18

    def load(self, row: Mapping[str, Any]) -> str:
        """The caption."""
        return row["caption"] or ""

    def shape(self, item: str) -> Hashable:
        """Prompts are padded to one length."""
        return 0

    def forward(self, items: list[str]) -> list[Any]:
        """Embeddings of a full batch."""
        with this_worker().forward_lock:
            found: list[Any] = self.encoder().forward(items)
        return found

    def finish(self, row: Mapping[str, Any], item: str, output: np.ndarray) -> dict[str, Any]:
        """The table's row."""
        return {self.table: {"shape": list(output.shape), "embedding": pack(output, self.stored) if item else None}}


def loaded(table: str, base: str, place: Placement) -> VaeEncoder | TextEncoder:
    """The encoder of a table, loaded once per process, on this worker's device; the process is prepared for it."""
    worker = this_worker()
    return worker.once(("encoder", table, base, place), lambda: ENCODERS[table](base, worker.prepare(place)))


@dataclass(frozen=True)
class Encode(Stage):
    """The stage. ``steps`` are the caches by table; ``wanted`` is what their files say of themselves."""

    steps: Mapping[str, EncodeStep]
    wanted: Mapping[str, Mapping[str, Any]]

    name = "encode"

    def outputs(self) -> dict[str, Output]:
        """The caches that are made. Workers compare the encoders' digests as they load them."""
        return {table: Output(TABLES[table].schema, self.wanted[table]) for table in self.steps}

    def devices(self) -> list[str]:
        """Where its encoders run."""
        return [step.place.device for step in self.steps.values()]

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """The missing caches, one after another: a network at a time."""
        for table in sorted(missing, key=CACHES.index):
            step = self.steps[table]
            step.prepare()
            output = {table: missing[table]}
            if table == LATENTS:
                yield aligned_task(dataset, run, shard, output, step, ROW_COLUMNS)
            else:
                captions = self.wanted[table]["captions"]["table"]
                yield aligned_task(dataset, run, shard, output, step, ("key", "caption"), captions)


def check_encode(address: str, base: str, text: bool) -> None:
    """Find out what would stop an encode, before an encoder is loaded.

    Raises:
        MillError: no dataset, its images or captions are not complete, or no such base.
    """
    dataset = mended(address)
    if dataset.index("images") is None:
        raise MillError(images_wanted(address))
    location(base)
    if text:
        dataset.captions()


def plan_encode(
    address: str,
    base: str,
    place: Placement,
    batch_size: int,
    text: bool,
    mirror: bool,
    stored: str,
    redo: Sequence[str] = (),
) -> Plan:
    """What is to be made, with which encoders; they are loaded here once, to know what they are.

    Args:
        address: the dataset.
        base: the base whose encoders are used.
        place: where they run.
        batch_size: pictures or captions in a forward pass; 0 for what a cache was begun with, else 1 on a CPU and 8.
        text: make ``embeddings`` too.
        mirror: store the moments of mirrored pictures too.
        stored: fp32 or fp16.
        redo: caches that are made anew.

    Raises:
        MillError: an encoder cannot be loaded, or the captions are not complete or stale.
    """
    dataset = Dataset.open(address)
    where = location(base)
    base = str(Path(where).resolve()) if Path(where).exists() else where
    steps: dict[str, EncodeStep] = {}
    wanted: dict[str, dict[str, Any]] = {}
    for table in CACHES if text else (LATENTS,):
        begun = _begun_with(dataset.redo(redo), table)
        size = batch_size or begun or (1 if place.device == "cpu" else GPU_BATCH)
        here = Placement(place.device, place.dtype, size, place.threads)
        encoder = ENCODERS[table](base, Placement())  # to know it: what works is loaded by the workers
        said: dict[str, Any] = {"table": table, "kind": table}
        said["encoder"] = {"version": VERSION, **provenance(encoder, here, stored)}
        if table == LATENTS:
            said["mirrored"] = mirror
            steps[table] = EncodeImages(base, encoder.digest, here, stored, mirror)
        else:
            said["captions"] = plain(dataset.captions())
            steps[table] = EncodeCaptions(base, encoder.digest, here, stored)
        wanted[table] = said
    return (Encode(steps, wanted),)


def _begun_with(dataset: Dataset, table: str) -> int:
    committed = dataset.committed(table)
    if not committed:
        return 0
    return dataset.footer(table, min(committed)).provenance.encoded_by.placement.batch_size
