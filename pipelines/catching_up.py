"""Bring the finished tables of a dataset up to date, each in the variant, with the network and as it was made."""

from __future__ import annotations

from collections.abc import Sequence

from controlmill.annotators.catalogue import Choice, check_licences, stored_choice
from controlmill.annotators.plan import find_weights, forward_groups
from controlmill.annotators.runtime.placement import Placement
from controlmill.schemas.annotator_records import PlacementRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.views.behind import behind_lines

from .engine.machines import Machines
from .engine.stage import Plan
from .options import NetworkOptions
from .stages.annotate import Annotate


def plan_stored(dataset: Dataset, options: NetworkOptions, machines: Machines, redo: Sequence[str]) -> Plan:
    """Stages that make what lacks of every finished table that annotators made; nothing where none lacks anything.

    Tables that are not finished, stale ones, and those from a user's files are not among them.

    Args:
        dataset: whose tables.
        options: where weights are and which licences are accepted; how networks run is as stored.
        machines: that do the work.
        redo: tables that are made anew, which may be stale.

    Raises:
        MillError: there is no such table; a licence is not accepted, or weights are missing.
    """
    if (options.dtype, options.batch_size, options.compile) != ("auto", "auto", False):
        raise MillError(
            "--dtype, --batch-size and --compile need --conditions: finished tables go on as they were made"
        )
    made: dict[PlacementRecord | None, list[Choice]] = {}
    for table in dataset.condition_tables():
        index = dataset.index(table)
        if index is None or (table not in redo and dataset.stale_shards(table, index)):
            continue
        record = index.provenance.made_by
        choice = (
            None if record.is_imported else stored_choice(table, record.condition, record.variant, record.params or {})
        )
        if choice:
            made.setdefault(record.placement, []).append(choice)
    if not made:
        lines = ["no finished table was made by an annotator: say what to make, --conditions canny,hed"]
        raise MillError("\n".join([*lines, *behind_lines(dataset)]))
    check_licences([choice for choices in made.values() for choice in choices], options.accept_license)
    return tuple(_stage(place, choices, options, machines) for place, choices in made.items())


def _stage(
    stored: PlacementRecord | None, choices: Sequence[Choice], options: NetworkOptions, machines: Machines
) -> Annotate:
    weights = {found.name: found for found in find_weights(choices, str(options.weights) if options.weights else None)}
    groups = tuple(forward_groups(choices))
    networks = [network.name for group in groups if (network := group.network())]
    if stored is None:
        return Annotate(groups, weights, {})
    device, dtype = machines.settle(options.device, stored.dtype)
    place = Placement(device, dtype, stored.batch_size, stored.threads, bool(stored.compile))
    return Annotate(groups, weights, dict.fromkeys(networks, place))
