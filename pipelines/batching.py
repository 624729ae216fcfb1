"""How many pictures a network takes at once: decided before a job and stored, because bits depend on it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from controlmill.annotators.base import Network
from controlmill.annotators.loading import load_network
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found
from controlmill.schemas.annotator_records import PlacementRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.addresses import open_storage

from .engine.faults import is_out_of_memory

LARGEST = 64
WORTH = 1.05  # a larger batch must be this much faster


def best_batch(network: type[Network], weights: Mapping[str, Found], place: Placement, resolution: int) -> int:
    """The batch that is best on a GPU of this machine, measured on square noise."""
    import torch

    try:
        return measured(network, weights, place, resolution)
    finally:
        torch.cuda.empty_cache()  # the workers are other processes and want this memory


def measured(network: type[Network], weights: Mapping[str, Found], place: Placement, resolution: int) -> int:
    """The batch beyond which pictures per second hardly grow; a batch that does not fit is halved."""
    import torch

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    loaded = load_network(network, weights, place)
    item = loaded.preprocess(noise)

    def forward(size: int) -> None:
        loaded.forward([item] * size)
        if place.device.startswith("cuda"):
            torch.cuda.synchronize(place.device)  # some networks leave their outputs on the device, still being made

    return fastest_batch(forward)


def fastest_batch(forward: Callable[[int], Any], clock: Callable[[], float] = time.perf_counter) -> int:
    """The smallest power of two that no doubling beats by :data:`WORTH`.

    Raises:
        MemoryError: not even one picture fits (or the device's own error).
    """
    best, best_speed, size = 1, 0.0, 1
    while size <= LARGEST:
        try:
            forward(size)  # the first call of a shape chooses algorithms
            times = []
            for _ in range(3):
                started = clock()
                forward(size)
                times.append(clock() - started)
        except Exception as error:
            if is_out_of_memory(error) and size > 1:
                break
            raise
        speed = size / statistics.median(times)
        if speed < best_speed * WORTH:
            break
        best, best_speed, size = size, speed, size * 2
    return best


def stored_placements(
    address: str, tables: Mapping[str, type[Network]], redo: Iterable[str]
) -> dict[str, PlacementRecord]:
    """Network name → placement that a dataset's tables were begun with.

    Args:
        address: of the dataset, which need not be there.
        tables: those asked for, by name.
        redo: those of them that are made anew: what counts is what was begun of the new one.
    """
    if not open_storage(address).exists("dataset.json"):
        return {}
    dataset = Dataset.open(address).redo(redo)
    found: dict[str, PlacementRecord] = {}
    for table, network in sorted(tables.items(), key=lambda item: item[0] not in redo):  # what stays decides
        made = dataset.begun_with(table)
        annotator = made.annotator if made else None
        if annotator and annotator.network and annotator.network.name == network.name and annotator.placement:
            found[network.name] = annotator.placement
    return found
