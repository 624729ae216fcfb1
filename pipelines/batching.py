"""How many pictures a network takes at once: decided before a job and stored, because bits depend on it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..annotators.base import Network, Placement
from ..annotators.plan import load_network
from ..annotators.weights import Found
from ..schemas.dataset import Dataset
from .rows import is_out_of_memory

LARGEST = 64
WORTH = 1.05  # a larger batch must be this much faster


def resolve_batches(
    networks: Iterable[type[Network]],
    weights: Mapping[str, Found],
    place: Placement,
    resolution: int,
    stored: Mapping[str, int],
) -> dict[str, Placement]:
    """Network name → placement with the batch that ``auto`` stands for.

    That is the one a dataset's tables were begun with, where there are any; else the network's own figure on a CPU;
    else what is measured here, on square noise of ``resolution`` pixels.
    """
    found = {}
    for network in networks:
        if network.name in stored:
            size = stored[network.name]
        elif place.device == "cpu":
            size = network.cpu_batch
        else:
            size = measured(network, weights, place, resolution)
        found[network.name] = replace(place, batch_size=size)
    return found


def measured(network: type[Network], weights: Mapping[str, Found], place: Placement, resolution: int) -> int:
    """The batch beyond which pictures per second hardly grow; a batch that does not fit is halved."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    loaded = load_network(network, weights, place)
    item = loaded.preprocess(noise)
    return fastest_batch(lambda size: loaded.forward([item] * size))


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


def stored_batches(address: str, tables: Mapping[str, type[Network]]) -> dict[str, int]:
    """Network name → batch size that a dataset's tables were begun with. ``tables``: those asked for, by name."""
    dataset = Dataset.open(address)
    found: dict[str, int] = {}
    for table, network in tables.items():
        committed = dataset.committed(table)
        if committed:
            said = dataset.footer(table, min(committed)).provenance.get("annotator", {})
            if said.get("network", {}).get("name") == network.name:
                found[network.name] = said["placement"]["batch_size"]
    return found
