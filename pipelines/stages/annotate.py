"""Annotate: the ``images`` table to condition tables, one forward group at a time, one decode a group."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlmill.annotators.base import Annotator, Network
from controlmill.annotators.loading import load_network, provenance
from controlmill.annotators.plan import ForwardGroup
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import row_seed
from controlmill.schemas.images.codecs import decode_image, encode_map
from controlmill.schemas.maps.user_maps import coverage
from controlmill.schemas.tables import IMAGES, condition_schema

from ..engine.faults import failure_of
from ..engine.loading import loading
from ..engine.rows import BatchStep, RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from ..engine.worker import this_worker
from .aligned import ROW_COLUMNS, aligned_task

DRAWN = "drawn"  # of a row: table → the parameters that its annotator takes, in the place of those it would draw


@dataclass(frozen=True)
class AnnotateRows(RowStep):
    """One row of ``images`` → one row for each table of a group without a network."""

    group: ForwardGroup

    def cost(self, row: Mapping[str, Any]) -> int:
        """Decoded pixels."""
        return int(row["width"] * row["height"] * 3)

    def do(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Table → row, or :class:`Failure`."""
        return rows_of(self.group, row["key"], decoded(row), None, row.get(DRAWN))


@dataclass(frozen=True)
class AnnotateBatches(BatchStep):
    """One row of ``images`` → one row for each table of a group that shares a network."""

    group: ForwardGroup
    weights: Mapping[str, Found]
    place: Placement

    @property
    def batch_size(self) -> int:
        """The network's batch."""
        return self.place.batch_size

    def cost(self, row: Mapping[str, Any]) -> int:
        """Decoded pixels, and the float copy that a network takes."""
        return int(row["width"] * row["height"] * 15)

    def load(self, row: Mapping[str, Any]) -> tuple[np.ndarray, Any]:
        """(image, network input)."""
        image = decoded(row)
        return image, self.network().preprocess(image)

    def shape(self, item: tuple[np.ndarray, Any]) -> Hashable:
        """(height, width) decide the batch."""
        return item[0].shape[:2]

    def forward(self, items: list[tuple[np.ndarray, Any]]) -> list[Any]:
        """Raw outputs of a full batch."""
        network = self.network()
        with this_worker().forward_lock:
            return network.forward([entry for _, entry in items])

    def finish(self, row: Mapping[str, Any], item: tuple[np.ndarray, Any], output: Any) -> dict[str, Any]:
        """Table → row, or :class:`Failure`."""
        image, _ = item
        return rows_of(self.group, row["key"], image, self.network().postprocess(output, image), row.get(DRAWN))

    def network(self) -> Network:
        """The group's network, loaded once per process; this process is prepared for one that runs in PyTorch."""
        network = self.group.network()
        assert network is not None
        found, worker = tuple(self.weights.values()), this_worker()

        def load() -> Network:
            place = worker.prepare(self.place) if "torch" in network.packages else self.place
            return load_network(network, self.weights, place)

        return worker.once(("network", network, found, self.place), load, stays=True)

    def prepare(self, shape: tuple[int, int] | None = None) -> None:
        """Load the network: what is wrong with it is wrong for every row.

        Args:
            shape: (height, width) of pictures that a compiled network is to be ready for; a batch of black ones
                does it, once per process.

        Raises:
            JobFault: it cannot be loaded, or compiled.
        """
        with loading(_named(self.group)):
            network = self.network()
            if shape:
                key = ("compiled", network, shape)
                this_worker().once(key, lambda: self._forward_black(network, shape), stays=True)

    def _forward_black(self, network: Network, shape: tuple[int, int]) -> None:
        black = network.preprocess(np.zeros((*shape, 3), np.uint8))
        with this_worker().forward_lock:
            network.forward([black] * self.batch_size)


def _named(group: ForwardGroup) -> str:
    return f"the network of {', '.join(choice.table for choice in group.choices)}"


def decoded(row: Mapping[str, Any]) -> np.ndarray:
    """The picture of a row of ``images``: uint8 (H, W, 3), RGB, read-only."""
    image = decode_image(row["image"]["bytes"], (row["height"], row["width"]))
    image.setflags(write=False)
    return image


def rows_of(
    group: ForwardGroup,
    key: str,
    image: np.ndarray,
    output: Any,
    drawn: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Table → row, or :class:`Failure`; one annotator's failure leaves the others' maps alone. See :data:`DRAWN`."""
    results: dict[str, Any] = {}
    annotators = this_worker().once(("annotators", group), group.annotators)
    for choice, annotator in zip(group.choices, annotators, strict=True):
        try:
            results[choice.table] = annotated(annotator, key, image, output, (drawn or {}).get(choice.table))
        except Exception as error:
            results[choice.table] = failure_of(error)
    return results


def annotated(
    annotator: Annotator, key: str, image: np.ndarray, output: Any, drawn: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A row of the condition's table, without what refused rows say.

    ``drawn`` takes the place of what the annotator would draw for the row.
    """
    condition = CONDITIONS[annotator.condition]
    if drawn is None:
        drawn = annotator.draw(np.random.default_rng(row_seed(key, f"{annotator.condition}={annotator.variant}")))
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

    def devices(self) -> list[str]:
        """Where its networks run."""
        return [place.device for place in self.places.values()]

    def messages(self) -> Iterator[str]:
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
            if network is None or {choice.table for choice in group.choices}.isdisjoint(tables):
                continue
            if here:
                AnnotateBatches(group, self.weights, self.place(group)).prepare()
            else:
                with loading(_named(group)):
                    load_network(network, self.weights, Placement())

    def outputs(self) -> dict[str, Output]:
        """Tables of all groups, in their order."""
        outputs = {}
        for group in self.groups:
            for choice, annotator in zip(group.choices, group.annotators(), strict=True):
                condition = CONDITIONS[choice.condition].in_table(choice.table)
                made_by = provenance(annotator, self.weights, self.place(group))
                outputs[choice.table] = Output(
                    condition_schema(condition, annotator.columns),
                    {"table": condition.table, "kind": condition.kind, "annotator": made_by},
                )
        return outputs

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """The groups that lack a table in this shard."""
        for group in self.groups:
            choices = tuple(choice for choice in group.choices if choice.table in missing)
            if choices:
                outputs = {choice.table: missing[choice.table] for choice in choices}
                step = self._step(ForwardGroup(choices), dataset, shard)
                yield aligned_task(dataset, run, shard, outputs, step, self.columns, completed=self.completed)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the images, that are read."""
        return ROW_COLUMNS

    def completed(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows of the images, with :data:`DRAWN` parameters where these are not to be drawn."""
        return rows

    def _step(self, group: ForwardGroup, dataset: Dataset, shard: int) -> RowStep:
        if group.network() is None:
            return AnnotateRows(group)
        step = AnnotateBatches(group, self.weights, self.place(group))
        step.prepare(first_shape(dataset, shard) if step.place.compile else None)
        return step


def first_shape(dataset: Dataset, shard: int) -> tuple[int, int] | None:
    """(height, width) of a shard's first picture, where it has one."""
    with dataset.parquet(IMAGES, shard) as parquet:
        first = next(read_rows(parquet, ("height", "width")), None)
    return (first["height"], first["width"]) if first else None
