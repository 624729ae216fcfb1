"""Which stages make the conditions that were asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from controlmill.annotators.catalogue import Choice
from controlmill.annotators.plan import ForwardGroup, find_weights, forward_groups
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found
from controlmill.schemas.errors import MillError
from controlmill.schemas.tables import CAPTIONS

from .engine.stage import Plan, Stage
from .labels.beside import import_of
from .stages.annotate import Annotate
from .stages.ingest import IngestConfig
from .stages.map_folders import MapFolder
from .stages.recaption import Recaption

Places = Callable[[Sequence[ForwardGroup], Mapping[str, Found]], Mapping[str, Placement]]


def everywhere(place: Placement) -> Places:
    """The same placement for every network."""
    return lambda groups, _: {network.name: place for group in groups if (network := group.network())}


def plan_conditions(
    choices: Sequence[Choice],
    places: Places,
    weights_folder: str | None,
    imports: Sequence[MapFolder] = (),
    conditions_from: str | None = None,
    config: IngestConfig | None = None,
    captions_from: str | None = None,
) -> Plan:
    """Stages with the fewest forward passes; all weights are found. ``places`` says where the networks run, given all.

    Raises:
        MillError: weights are missing, all of them listed; or a condition is both annotated and imported.
    """
    taken = {column.condition.table for column in imports} | ({CAPTIONS} if captions_from else set())
    both = {choice.table for choice in choices} & taken
    if both:
        raise MillError(f"{', '.join(sorted(both))}: annotate it or import it, not both")
    stages: list[Stage] = []
    if imports and conditions_from:
        limits = (config or IngestConfig()).limits
        stages.append(import_of(os.path.abspath(conditions_from), imports, limits))
    if captions_from:
        stages.append(Recaption(os.path.abspath(captions_from)))
    if choices:
        weights = {found.name: found for found in find_weights(choices, weights_folder)}
        groups = tuple(forward_groups(choices))
        stages.append(Annotate(groups, weights, places(groups, weights)))
    return tuple(stages)
