"""What a command is asked to make: conditions to annotate, maps to import, captions to take over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlmill.annotators.catalogue import Choice, check_licences, parse_conditions
from controlmill.schemas.errors import MillError

from .engine.machines import HERE, Machines
from .engine.stage import Plan
from .networks import Placements
from .options import MapOptions, NetworkOptions
from .planning import plan_conditions
from .stages.ingest import IngestConfig
from .stages.map_folders import MapFolder, parse_map_folders

NETWORKLESS = "none of these conditions has a network"


@dataclass(frozen=True)
class Request:
    """Conditions, imports and captions, parsed and checked; :meth:`plan` finds the weights."""

    config: IngestConfig
    placements: Placements
    choices: Sequence[Choice] = ()
    imports: Sequence[MapFolder] = ()
    conditions_from: Path | None = None
    captions_from: Path | None = None

    @property
    def weights(self) -> str | None:
        """The user's folder of weights."""
        folder = self.placements.options.weights
        return str(folder) if folder else None

    @property
    def unused_device(self) -> str:
        """The device that was asked for where nothing runs on one, or ''."""
        device = self.placements.options.device
        return "" if device == "auto" or _has_network(self.choices) else device

    def plan(self) -> Plan:
        """The stages that make it.

        Raises:
            MillError: see :func:`planning.plan_conditions`.
        """
        folder, captions = (str(path) if path else None for path in (self.conditions_from, self.captions_from))
        return plan_conditions(self.choices, self.placements, self.weights, self.imports, folder, self.config, captions)


def parse_request(
    dataset: str,
    config: IngestConfig,
    redo: Sequence[str],
    maps: MapOptions,
    networks: NetworkOptions,
    conditions: str | None,
    captions_from: Path | None = None,
    machines: Machines = HERE,
) -> Request:
    """What the options of a command ask for; ``conditions`` is None for a command that has no such option.

    ``machines`` are those that do the work.

    Raises:
        MillError: nothing is asked for; a condition, a licence or a folder of maps is not as it must be.
    """
    if conditions == "" and not maps.conditions_from and not captions_from:
        raise MillError("say what to make: --conditions canny,hed (or --conditions-from FOLDER to import maps)")
    choices = parse_conditions(conditions) if conditions else []
    if networks.compile:
        if config.fit == "none":
            raise MillError("--compile: pictures of --fit none have any shape, and each would be compiled for itself")
        if not _has_network(choices):
            raise MillError(f"--compile: {NETWORKLESS}")
    check_licences(choices, networks.accept_license)
    imports = parse_map_folders(maps) if maps.conditions_from else ()
    placements = Placements(networks, config.resolution, dataset, redo, machines)
    return Request(config, placements, choices, imports, maps.conditions_from, captions_from)


def _has_network(choices: Sequence[Choice]) -> bool:
    return any(choice.build().network for choice in choices)
