"""Annotate: the ``images`` table to condition tables, one forward group at a time, one decode a group."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from controlmill.annotators.base import Annotator, Network, Placement
from controlmill.annotators.plan import ForwardGroup, load_network, provenance
from controlmill.annotators.runtime.weights import Found
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import row_seed
from controlmill.schemas.images.codecs import decode_image, encode_map
from controlmill.schemas.maps.user_maps import coverage

from ..engine.rows import JobFault, failure_of, is_out_of_memory
from ..engine.run_folder import Run
from ..engine.shards import Stage, Work
from .aligned import ROW_COLUMNS, Output, aligned_work


@dataclass(frozen=True)
class AnnotateStep:
    """One row of ``images`` → one row for each table of a forward group."""

    group: ForwardGroup
    weights: Mapping[str, Found]
    place: Placement

    @property
    def batch_size(self) -> int:
        """The network's batch; 0 without one."""
        return self.place.batch_size if self.group.network() else 0

    def cost(self, row: Mapping[str, Any]) -> int:
        """Decoded pixels, and the float copy that a network takes."""
        return int(row["width"] * row["height"] * (15 if self.batch_size else 3))

    def load(self, row: Mapping[str, Any]) -> tuple[np.ndarray, Any]:
        """(image, network input)."""
        image = decode_image(row["image"]["bytes"], (row["height"], row["width"]))
        image.setflags(write=False)
        network = self._network()
        return image, network.preprocess(image) if network else None

    def shape(self, item: tuple[np.ndarray, Any]) -> Hashable:
        """(height, width) decide the batch."""
        return item[0].shape[:2]

    def forward(self, items: list[tuple[np.ndarray, Any]]) -> list[Any]:
        """Raw outputs of a full batch."""
        network = self._network()
        assert network is not None
        with forward_lock:
            return network.forward([entry for _, entry in items])

    def finish(self, row: Mapping[str, Any], item: tuple[np.ndarray, Any], output: Any) -> dict[str, Any]:
        """Table → row, or :class:`Failure`; one annotator's failure leaves the others' maps alone."""
        image, _ = item
        network = self._network()
        output = network.postprocess(output, image) if network else None
        results: dict[str, Any] = {}
        for choice, annotator in zip(self.group.choices, annotators_of(self.group), strict=True):
            try:
                results[choice.table] = annotated(annotator, row["key"], image, output)
            except Exception as error:
                results[choice.table] = failure_of(error)
        return results

    def prepare(self, shape: tuple[int, int] | None = None) -> None:
        """Load the network: what is wrong with it is wrong for every row.

        Args:
            shape: (height, width) of a picture that a compiled network is to be ready for.

        Raises:
            JobFault: it cannot be loaded, or compiled.
        """
        with _what_loading_says(self.group):
            if self._network() and self.place.compile and shape:
                compile_for(shape, self.group, tuple(self.weights.values()), self.place)

    def _network(self) -> Network | None:
        return loaded(self.group, tuple(self.weights.values()), self.place)


@contextmanager
def _what_loading_says(group: ForwardGroup) -> Iterator[None]:
    """What goes wrong with a network is no fault of a row."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        names = ", ".join(choice.table for choice in group.choices)
        text = str(error) if isinstance(error, MillError) else error_text(error)
        raise JobFault(f"the network of {names} cannot be loaded: {text}") from error


forward_lock = threading.Lock()
_loading = threading.Lock()


@functools.cache
def annotators_of(group: ForwardGroup) -> list[Annotator]:
    """The group's annotators, made once per process."""
    return group.annotators()


def loaded(group: ForwardGroup, weights: tuple[Found, ...], place: Placement) -> Network | None:
    """The group's network, loaded once per process; this process is prepared for it too."""
    with _loading:
        return _loaded(group, weights, place)


@functools.cache
def _loaded(group: ForwardGroup, weights: tuple[Found, ...], place: Placement) -> Network | None:
    cv2.setNumThreads(1)  # codec threads are the parallelism
    network = group.network()
    if network is None:
        return None
    from controlmill.annotators.runtime.torch_device import device_of_worker, prepare_process

    prepare_process(place)
    here = replace(place, device=device_of_worker(place.device, worker_index()))
    return load_network(network, {found.name: found for found in weights}, here)


@functools.cache
def compile_for(shape: tuple[int, int], group: ForwardGroup, weights: tuple[Found, ...], place: Placement) -> None:
    """Have the group's network compiled for pictures (height, width), once per process: a batch of black ones does it.

    Raises:
        MillError: it does not compile.
    """
    network = loaded(group, weights, place)
    assert network is not None
    black = network.preprocess(np.zeros((*shape, 3), np.uint8))
    with forward_lock:
        network.forward([black] * place.batch_size)


def worker_index() -> int:
    """Which of a cluster's workers this process is; 0 without a cluster."""
    distributed = sys.modules.get("distributed")  # where it is not loaded there is no cluster
    try:
        return int(distributed.get_worker().name) if distributed else 0
    except ValueError:  # no worker, or one with a name of its own
        return 0


def annotated(annotator: Annotator, key: str, image: np.ndarray, output: Any) -> dict[str, Any]:
    """A row of the condition's table, without what refused rows say."""
    condition = CONDITIONS[annotator.condition]
    rng = np.random.default_rng(row_seed(key, f"{annotator.condition}={annotator.variant}"))
    drawn = annotator.draw(rng)
    annotation = annotator.annotate(image, output, drawn)
    if isinstance(annotation.map, str):
        value: dict[str, Any] = {"caption": annotation.map}
    else:
        data = encode_map(condition.kind, annotation.map, image.shape[:2], annotator.palette)
        share = coverage(condition.kind, annotation.map)
        value = {"map": {"bytes": data, "path": f"{key}.png"}, "coverage": share}
    return {**value, **drawn, **annotation.columns}


@dataclass(frozen=True)
class Annotate(Stage):
    """The stage: forward groups, their weights, and where each network (by name) runs."""

    groups: tuple[ForwardGroup, ...]
    weights: Mapping[str, Found]
    places: Mapping[str, Placement]

    name = "annotate"

    @property
    def tables(self) -> tuple[str, ...]:  # type: ignore[override]
        """Tables of all groups."""
        return tuple(table for group in self.groups for table in self.outputs(group))

    def devices(self) -> list[str]:
        """Where its networks run."""
        return [place.device for place in self.places.values()]

    def said(self) -> Iterator[str]:
        """The weights that are used."""
        for found in self.weights.values():
            yield f"weights: {found.name} is {found.origin} ({found.licence}), {found.path}"

    def place(self, group: ForwardGroup) -> Placement:
        """Where the group's network runs."""
        network = group.network()
        return self.places[network.name] if network else Placement()

    def load(self, tables: Iterable[str], here: bool) -> None:
        """The networks of all groups that make some of the tables; elsewhere than where they work, on the CPU."""
        for group in self.groups:
            network = group.network()
            if network is None or set(self.outputs(group)).isdisjoint(tables):
                continue
            step = AnnotateStep(group, self.weights, self.place(group))
            if here:
                step.prepare()
            else:
                with _what_loading_says(group):
                    load_network(network, self.weights, Placement())

    def outputs(self, group: ForwardGroup) -> dict[str, Output]:
        """Table → what is made."""
        outputs = {}
        for choice, annotator in zip(group.choices, group.annotators(), strict=True):
            condition = CONDITIONS[choice.condition].in_table(choice.table)
            said = {
                "table": condition.table,
                "kind": condition.kind,
                "annotator": provenance(annotator, self.weights, self.place(group)),
            }
            outputs[condition.table] = Output(condition, annotator.columns, said)
        return outputs

    def work(self, dataset: Dataset, run: Run, shard: int, missing: set[str]) -> Iterator[Work]:
        """The groups that lack a table in this shard."""
        for group in self.groups:
            outputs = {table: output for table, output in self.outputs(group).items() if table in missing}
            if outputs:
                wanted = ForwardGroup(tuple(choice for choice in group.choices if choice.table in outputs))
                step = AnnotateStep(wanted, self.weights, self.place(group))
                step.prepare(first_shape(dataset, shard))
                yield aligned_work(dataset, run, shard, outputs, step, ROW_COLUMNS)


def first_shape(dataset: Dataset, shard: int) -> tuple[int, int] | None:
    """(height, width) of a shard's first picture, where it has one."""
    with dataset.parquet("images", shard) as parquet:
        first = next(read_rows(parquet, ("height", "width")), None)
    return (first["height"], first["width"]) if first else None
