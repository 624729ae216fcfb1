"""Where each annotator's network runs, and with which batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controlmill.annotators.base import Network
from controlmill.annotators.plan import ForwardGroup
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found
from controlmill.schemas.annotator_records import PlacementRecord

from .batching import best_batch, stored_placements
from .engine.machines import HERE, Machines
from .options import NetworkOptions


@dataclass(frozen=True)
class Placements:
    """Chooses placements by the options, for pictures of a resolution and the machines that do the work.

    What ``auto`` meant when a table of the dataset was begun, it goes on to mean, except for tables that are redone.
    """

    options: NetworkOptions
    resolution: int
    dataset: str
    redo: Sequence[str] = ()
    machines: Machines = HERE

    def __call__(self, groups: Sequence[ForwardGroup], weights: Mapping[str, Found]) -> Mapping[str, Placement]:
        """Network name → where it runs."""
        tables = {choice.table: network for group in groups for choice in group.choices if (network := group.network())}
        if not tables:
            return {}
        options = self.options
        stored = stored_placements(self.dataset, tables, self.redo)
        begun = stored.keys() >= {network.name for network in tables.values()}
        asked = "fp32" if options.dtype == "auto" and begun else options.dtype  # which the stored one replaces
        device, dtype = self.machines.settle(options.device, asked)
        place = Placement(device=device, dtype=dtype, compile=options.compile)
        return {
            network.name: self._placement(network, weights, place, stored.get(network.name))
            for network in set(tables.values())
        }

    def _placement(
        self, network: type[Network], weights: Mapping[str, Found], place: Placement, stored: PlacementRecord | None
    ) -> Placement:
        if self.options.dtype == "auto" and stored:
            place = replace(place, dtype=stored.dtype)
        if self.options.batch_size != "auto":
            size = int(self.options.batch_size)
        elif stored:
            size = stored.batch_size
        else:
            size = self._best_batch(network, weights, place)
        return replace(place, batch_size=size)

    def _best_batch(self, network: type[Network], weights: Mapping[str, Found], place: Placement) -> int:
        """What ``auto`` means: the network's own figure on a CPU, else what is measured where it will run."""
        if place.device == "cpu":
            return network.cpu_batch
        question = functools.partial(best_batch, network, weights, place, self.resolution)
        return self.machines.ask(question, "--batch-size")
