"""Features of pictures and captions, for measures of image quality: a table each, made once for any dataset."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlmill.annotators.loading import load_network, network_record
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found
from controlmill.evaluation.features.catalogue import network_of
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Refused
from controlmill.schemas.fingerprint import package_versions
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.results import OF_ROW, OF_SHARD, PROMPT_KIND
from controlmill.schemas.tables import CLIP_TEXT, IMAGES, LPIPS, OF_ROWS, TABLES

from ..engine.loading import loading
from ..engine.rows import BatchStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from ..engine.worker import this_worker
from .aligned import ROW_COLUMNS, aligned_task
from .beside import once_a_row

VERSION = 1
GPU_BATCH = 32
PICTURES = "pictures"  # of a row of results' source and a kind of prompt: the rows of its pictures


@dataclass(frozen=True)
class FeatureStep(BatchStep):
    """A picture → its features."""

    table: str
    weights: Mapping[str, Found]
    place: Placement

    @property
    def batch_size(self) -> int:
        """The network's batch."""
        return self.place.batch_size

    def network(self) -> Any:
        """The network, loaded once per process, on this worker's device."""
        network, worker = network_of(self.table), this_worker()
        found = tuple(self.weights[file.name] for file in network.weights)
        key = ("network", network, found, self.place)
        return worker.once(key, lambda: load_network(network, self.weights, worker.prepare(self.place)), stays=True)

    def cost(self, row: Mapping[str, Any]) -> int:
        """Decoded pixels, and the floats that a network takes."""
        return int(row["width"] * row["height"] * 15)

    def load(self, row: Mapping[str, Any]) -> np.ndarray:
        """The network's input, of a size that no picture changes."""
        inputs: np.ndarray = self.network().preprocess(decode_image(row["image"]["bytes"], sides(row)))
        return inputs

    def shape(self, item: np.ndarray) -> Hashable:
        """Of the input."""
        return item.shape

    def forward(self, items: list[np.ndarray]) -> list[Any]:
        """Features of a full batch."""
        network = self.network()
        with this_worker().forward_lock:
            outputs: list[Any] = network.forward(items)
        return outputs

    def finish(self, row: Mapping[str, Any], item: Any, output: Any) -> dict[str, Any]:
        """The table's row; of a row of the source that several pictures share, the first has the features."""
        made = {"features": self.network().postprocess(output, item)}
        key = row.get("key")
        return {self.table: [made, *[{}] * (len(key) - 1)] if isinstance(key, tuple) else made}


@dataclass(frozen=True)
class TextStep(FeatureStep):
    """A caption → its features."""

    def cost(self, row: Mapping[str, Any]) -> int:
        """About what its tokens take."""
        return 1 << 12

    def load(self, row: Mapping[str, Any]) -> np.ndarray:
        """Token ids.

        Raises:
            Refused: there is no caption.
        """
        if not row["caption"]:
            raise Refused("missing", "the row has no caption")
        ids: np.ndarray = self.network().preprocess(row["caption"])
        return ids


@dataclass(frozen=True)
class DiversityStep(FeatureStep):
    """The k pictures of a row and kind of prompt → each one's mean LPIPS distance to the others; a forward each."""

    def cost(self, row: Mapping[str, Any]) -> int:
        """Decoded pixels of all, and their floats."""
        return sum(super(DiversityStep, self).cost(picture) for picture in row[PICTURES])

    def load(self, row: Mapping[str, Any]) -> np.ndarray:
        """float32 (k, 3, H, W).

        Raises:
            Refused: there is one picture alone.
        """
        pictures = row[PICTURES]
        if len(pictures) < 2:
            raise Refused("missing", "the row has one picture")
        decoded = [decode_image(picture["image"]["bytes"], sides(picture)) for picture in pictures]
        return np.stack([self.network().preprocess(picture) for picture in decoded])

    def forward(self, items: list[np.ndarray]) -> list[Any]:
        """The mean distances, float64 (k,) for each group."""
        network = self.network()
        with this_worker().forward_lock:
            matrices = [network.distances(pictures) for pictures in items]
        return [matrix.sum(1) / (len(matrix) - 1) for matrix in matrices]

    def finish(self, row: Mapping[str, Any], item: Any, output: np.ndarray) -> dict[str, Any]:
        """The table's rows."""
        return {self.table: [{"distance": float(distance)} for distance in output]}


def grouped(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The pictures of results of one row and kind of prompt together."""
    for _, group in itertools.groupby(rows, key=lambda row: (row[OF_SHARD], row[OF_ROW], row[PROMPT_KIND])):
        pictures = list(group)
        yield {"key": tuple(picture["key"] for picture in pictures), PICTURES: pictures}


def sides(row: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of a row of ``images``."""
    return row["height"], row["width"]


@dataclass(frozen=True)
class Features(Stage):
    """The stage.

    Args:
        tables: those that are made, with where each one's network runs.
        weights: of all networks.
        captions: the table that has the captions.
        captions_sha256: its fingerprint, where it is another dataset's.
        source: address of the dataset whose rows they are of; "": of the dataset itself.
    """

    tables: Mapping[str, Placement]
    weights: Mapping[str, Found]
    captions: str
    captions_sha256: str = ""
    source: str = ""

    name = "features"

    def outputs(self) -> dict[str, Output]:
        """The tables."""
        return {
            table: Output(TABLES[table].schema, self._provenance(table, place)) for table, place in self.tables.items()
        }

    def _provenance(self, table: str, place: Placement) -> dict[str, Any]:
        network = network_of(table)
        made: dict[str, Any] = {
            "version": VERSION,
            "network": network_record(network, self.weights),
            "packages": package_versions(*network.packages),
            "placement": place.provenance(),
        }
        described: dict[str, Any] = {"table": table, "kind": table, "features": made}
        if kind_of(table) == CLIP_TEXT:
            digest = {"sha256": self.captions_sha256} if self.captions_sha256 else {}
            described["captions"] = {"table": self.captions, **digest}
        return described

    def devices(self) -> list[str]:
        """Where its networks run."""
        return [place.device for place in self.tables.values()]

    def load(self, tables: Iterable[str], here: bool) -> None:
        """The networks of some tables; elsewhere than where they work, on the CPU."""
        for table in self.tables.keys() & set(tables):
            with loading(f"the network of {table}"):
                if here:
                    self._step(table).network()
                else:
                    load_network(network_of(table), self.weights, Placement())

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """The missing tables, one after another: a network at a time."""
        for table in self.tables:
            if table in missing:
                step = self._step(table)
                with loading(f"the network of {table}"):
                    step.network()
                task = dataset, run, shard, {table: missing[table]}, step
                if self.source:
                    yield aligned_task(*task, ("key", OF_SHARD, OF_ROW, PROMPT_KIND), completed=self._once_a_row(table))
                elif table == CLIP_TEXT:
                    yield aligned_task(*task, ("key", "caption"), self.captions)
                elif table == LPIPS:
                    yield aligned_task(*task, (*ROW_COLUMNS, OF_SHARD, OF_ROW, PROMPT_KIND), completed=grouped)
                else:
                    yield aligned_task(*task, ROW_COLUMNS)

    def _once_a_row(self, table: str) -> Callable[[Iterator[dict[str, Any]]], Iterator[dict[str, Any]]]:
        source = Dataset.open(self.source)
        read = (self.captions, ("caption",)) if kind_of(table) == CLIP_TEXT else (IMAGES, ("image", "width", "height"))
        return lambda rows: once_a_row(rows, source, *read)

    def _step(self, table: str) -> FeatureStep:
        step = {CLIP_TEXT: TextStep, LPIPS: DiversityStep}.get(kind_of(table), FeatureStep)
        return step(table, self.weights, self.tables[table])


def kind_of(table: str) -> str:
    """What is in a table of features, whoever's rows they are of."""
    return OF_ROWS.get(table, table)


def plan_features(
    dataset: Dataset,
    tables: Sequence[str],
    weights: Mapping[str, Found],
    device: str,
    batch_size: int = 0,
    source: Dataset | None = None,
) -> Features:
    """The stage that makes tables of features of a dataset, always at fp32; no network is loaded.

    Args:
        dataset: whose pictures and captions.
        tables: which.
        weights: of their networks.
        device: where they run.
        batch_size: pictures in a forward pass; 0 for what a table was begun with, else what suits the device.
        source: where they are features of the rows that results were made for, the dataset of these.

    Raises:
        MillError: captions are asked for that are not complete, or stale.
    """
    places = {}
    for table in tables:
        usual = GPU_BATCH if device != "cpu" and table != LPIPS else network_of(table).cpu_batch
        places[table] = Placement(device, "fp32", batch_size or _begun_with(dataset, table) or usual)
    if CLIP_TEXT not in map(kind_of, tables):
        captions, digest = "", ""
    elif source is None:
        captions, digest = dataset.captions().table, ""
    else:
        captions = source.captions().table
        digest = source.sha256(captions)
    return Features(places, weights, captions, digest, source.storage.address if source else "")


def _begun_with(dataset: Dataset, table: str) -> int:
    made = dataset.begun_with(table)
    return made.features.placement.batch_size if made and made.features else 0
