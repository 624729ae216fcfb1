"""The options that are about networks, and where each network runs. Heavy imports wait until a command runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlmill.annotators.base import Placement
    from controlmill.annotators.plan import ForwardGroup
    from controlmill.annotators.runtime.weights import Found

    from .stages.ingest import IngestConfig


@dataclass(frozen=True)
class Networks:
    """The options that are about networks, as given."""

    weights: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: str = "auto"
    compile: bool = False
    licences: Sequence[str] = ()
    resolution: int = 512
    dataset: str | None = None
    redo: Sequence[str] = ()

    def places(self, groups: Sequence[ForwardGroup], weights: Mapping[str, Found]) -> Mapping[str, Placement]:
        """Network name → where it runs. What ``auto`` meant when a dataset's tables were begun, it goes on to mean."""
        from controlmill.annotators.base import Placement

        from .batching import best_batch, stored_placements

        tables = {choice.table: network for group in groups for choice in group.choices if (network := group.network())}
        if not tables:
            return {}
        from controlmill.annotators.runtime.torch_device import resolve_device, resolve_dtype

        device = resolve_device(self.device)
        place = Placement(device=device, dtype=resolve_dtype(self.dtype, device), compile=self.compile)
        stored = stored_placements(self.dataset, tables, self.redo) if self.dataset else {}
        places = {}
        for network in set(tables.values()):
            before = stored.get(network.name, {})
            here = replace(place, dtype=before.get("dtype", place.dtype)) if self.dtype == "auto" else place
            if self.batch_size != "auto":
                size = int(self.batch_size)
            elif "batch_size" in before:
                size = before["batch_size"]
            else:
                size = best_batch(network, weights, here, self.resolution)
            places[network.name] = replace(here, batch_size=size)
        return places


def networks_of(
    weights: Path | None,
    device: str,
    dtype: str,
    batch_size: str,
    compile: bool,
    licences: list[str] | None,
    dataset: str,
    redo: list[str],
    config: IngestConfig,
) -> Networks:
    """The options, checked; raises MillError."""
    from controlmill.annotators.runtime.torch_device import check_device, check_dtype
    from controlmill.schemas.errors import MillError

    if compile and config.fit == "none":
        raise MillError("--compile: pictures of --fit none have any shape, and each would be compiled for itself")
    check_device(device)
    check_dtype(dtype)
    if batch_size != "auto" and not (batch_size.isdecimal() and int(batch_size)):
        raise MillError(f"--batch-size {batch_size}: auto, or 1 or more")
    folder = str(weights) if weights else None
    return Networks(folder, device, dtype, batch_size, compile, tuple(licences or ()), config.resolution, dataset, redo)
