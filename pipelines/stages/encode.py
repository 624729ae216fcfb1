"""Encode: pictures and captions through a base's encoders, into the caches that training reads (``schemas.caches``).

A stage like annotate's: the same steps, batches, bisection, commit and provenance.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.annotators.runtime.placement import Placement
from controlmill.bases.base import Encoder
from controlmill.bases.configuration import location
from controlmill.bases.pixels import signed
from controlmill.bases.registry import read_facts
from controlmill.schemas.caches import cache_schema, packed
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import package_versions
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.tables import CACHES, EMBEDDINGS, LATENTS

from ..annotation import images_wanted
from ..engine.faults import JobFault
from ..engine.mend import mended
from ..engine.rows import BatchStep
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

    def encoder_class(self) -> type[Encoder]:
        """The encoder's class."""
        return read_facts(self.base).encoders[self.table]

    def encoder(self) -> Encoder:
        """The encoder, loaded once per process, on this worker's device; the process is prepared for it."""
        worker = this_worker()
        key = ("encoder", self.table, self.base, self.sha256, self.place)
        return worker.once(key, lambda: self.encoder_class()(self.base, worker.prepare(self.place)), stays=True)

    def prepare(self, elsewhere: Placement | None = None) -> None:
        """Load the encoder, to find out whether it can be; ``elsewhere`` it is let go of.

        Raises:
            JobFault: it cannot be loaded.
        """
        try:
            if elsewhere:
                self.encoder_class()(self.base, elsewhere)
            else:
                self.encoder()
        except MillError as error:
            raise JobFault(str(error)) from error


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
        multiple = self.encoder().multiple
        if image.shape[0] % multiple or image.shape[1] % multiple:
            raise ValueError(
                f"the picture is {image.shape[1]}x{image.shape[0]}, the VAE takes sides in multiples of {multiple}"
            )
        return signed(np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32))

    def shape(self, item: np.ndarray) -> Hashable:
        """(height, width)."""
        return item.shape[1:]

    def forward(self, items: list[np.ndarray]) -> list[Any]:
        """(arrays of the picture, those of the mirrored one or None) of a full batch."""
        encoder = self.encoder()
        flipped = [np.ascontiguousarray(item[:, :, ::-1]) for item in items] if self.mirror else []
        with this_worker().forward_lock:
            arrays = encoder.forward(items)
            mirrored = encoder.forward(flipped) if flipped else [None] * len(items)
        return list(zip(arrays, mirrored, strict=True))

    def finish(self, row: Mapping[str, Any], item: Any, output: Any) -> dict[str, Any]:
        """The table's row."""
        arrays, mirrored = output
        return {self.table: packed(arrays, self.stored, mirrored)}


@dataclass(frozen=True)
class EncodeCaptions(EncodeStep):
    """A caption → what text encoders make of it; no caption → nulls, which stand for the empty prompt."""

    table = EMBEDDINGS

    def cost(self, row: Mapping[str, Any]) -> int:
        """About what its arrays take."""
        return 1 << 18

    def load(self, row: Mapping[str, Any]) -> str:
        """The caption."""
        return row["caption"] or ""

    def shape(self, item: str) -> Hashable:
        """Prompts are padded to one length."""
        return 0

    def forward(self, items: list[str]) -> list[Any]:
        """Arrays of a full batch."""
        encoder = self.encoder()
        with this_worker().forward_lock:
            return encoder.forward(items)

    def finish(self, row: Mapping[str, Any], item: str, output: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The table's row."""
        columns = packed(output, self.stored)
        return {self.table: columns if item else {**columns, **dict.fromkeys(output)}}


def encoder_record(step: EncodeStep) -> Mapping[str, Any]:
    """What identifies the encoder of a step, read from the base's files here."""
    return this_worker().once(("encoder record", step), lambda: read_facts(step.base).encoder_record(step.table))


@dataclass(frozen=True)
class Encode(Stage):
    """The stage. ``steps`` are the caches by table; ``captions`` say which are encoded."""

    steps: Mapping[str, EncodeStep]
    captions: Mapping[str, Any]

    name = "encode"

    def outputs(self) -> dict[str, Output]:
        """The caches that are made, by the base and the packages that are here."""
        outputs = {}
        for table, step in self.steps.items():
            encoder = step.encoder_class()
            made: dict[str, Any] = {"table": table, "kind": table, "encoder": self._provenance(step, encoder)}
            made |= {"mirrored": step.mirror} if table == LATENTS else {"captions": self.captions}
            outputs[table] = Output(cache_schema(table, encoder.arrays), made)
        return outputs

    def _provenance(self, step: EncodeStep, encoder: type[Encoder]) -> dict[str, Any]:
        """What decides a cache beside rows. The base's name is not in it: equal weights are equal wherever they lie."""
        return {
            "version": VERSION,
            **encoder_record(step),
            "stored": step.stored,
            "packages": package_versions(*encoder.packages),
            "placement": step.place.provenance(),
        }

    def load(self, tables: Iterable[str], here: bool) -> None:
        """The encoders of some tables; elsewhere than where they work, on the CPU."""
        for table in self.steps.keys() & set(tables):
            self.steps[table].prepare(None if here else Placement())

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
                yield aligned_task(dataset, run, shard, output, step, ("key", "caption"), self.captions["table"])


def check_encode(address: str, base: str, text: bool) -> None:
    """Find out what would stop an encode, before an encoder is loaded.

    Raises:
        MillError: no dataset, its images or captions are not complete, or no such base.
    """
    dataset = mended(address)
    if dataset.whole_index("images") is None:
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
    """What is to be made, with which encoders; none is loaded.

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
        MillError: no such base, its files cannot be read, or the captions are not complete or stale.
    """
    dataset = Dataset.open(address)
    where = location(base)
    if base != "tiny":  # that one lies where each machine has ControlMill
        base = str(Path(where).resolve()) if Path(where).exists() else where
    facts = read_facts(base)
    steps: dict[str, EncodeStep] = {}
    for table in CACHES if text else (LATENTS,):
        begun = _begun_with(dataset.redo(redo), table)
        size = batch_size or begun or (1 if place.device == "cpu" else GPU_BATCH)
        here = Placement(place.device, place.dtype, size, place.threads)
        digest = facts.encoder_digest(table)
        if table == LATENTS:
            steps[table] = EncodeImages(base, digest, here, stored, mirror)
        else:
            steps[table] = EncodeCaptions(base, digest, here, stored)
    return (Encode(steps, {"table": dataset.captions().table} if text else {}),)


def _begun_with(dataset: Dataset, table: str) -> int:
    made = dataset.begun_with(table)
    return made.encoded_by.placement.batch_size if made else 0
