"""Which annotator judges the pictures of an evaluation, with its weights found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from controlmill.annotators.catalogue import Choice, check_licences, parse_condition, stored_choice
from controlmill.annotators.plan import ForwardGroup, find_weights
from controlmill.evaluation.protocols.protocol import Protocol
from controlmill.pipelines.engine.machines import Machines
from controlmill.pipelines.networks import Placements
from controlmill.pipelines.options import NetworkOptions
from controlmill.pipelines.stages.judge import Judge, drawn_columns, draws_differ
from controlmill.schemas.conditions import CONDITIONS, Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.views.lookup import Place

if TYPE_CHECKING:
    from .evaluate import EvaluateOptions


def find_judge(
    source: Dataset,
    truth: Condition,
    results: str,
    protocol: Protocol,
    options: EvaluateOptions,
    others: Mapping[Place, Place],
    machines: Machines,
) -> Judge:
    """The annotator of the pictures, with its weights found, and where it runs of the ``machines`` that do the work.

    Raises:
        MillError: it makes maps of another condition, or is not here.
    """
    index = source.index(truth.table)
    assert index is not None
    made = index.provenance.made_by
    word = options.judge or protocol.judge
    known = None if made.is_from_files else made.params or {}
    maker = None if known is None else stored_choice(truth.table, made.condition, made.variant, known)
    choice: Choice | None
    if word:
        try:
            choice = parse_condition(word)
        except ValueError as error:
            raise MillError(f"--judge {word}: {error}") from error
    else:
        choice = maker
        if choice is None:
            raise MillError(f"{truth.table} was made by no annotator that is here: name a judge, --judge NAME=VARIANT")
    if choice.condition != truth.name:
        raise MillError(f"the judge {word} makes {choice.condition}, the true maps of {truth.table} are {truth.name}")
    reading = made.reading
    if reading and reading.label_set and reading.label_set.name != truth.label_set:
        raise MillError(f"{truth.table} has classes of {reading.label_set.name}, the judge those of {truth.label_set}")
    x_channel = getattr(choice.build(), "x_channel", None)
    if x_channel is not None and truth.x_channel not in (None, x_channel):
        raise MillError(
            f"the judge {word} stores x in channel {x_channel} of normals, {truth.table} in {truth.x_channel}"
        )
    choice = replace(choice, own_name="" if truth.table == CONDITIONS[choice.condition].table else truth.table)
    check_licences([choice], options.accept_license)
    folder = str(options.weights) if options.weights else None
    weights = {found.name: found for found in find_weights([choice], folder)}
    columns = source.footer(truth.table, 0).schema.names
    drawn = drawn_columns(choice.build(), columns)
    by_chance = f"{choice.table}_by_chance" if drawn and not (maker and not draws_differ(maker.build())) else ""
    twice = (replace(choice, own_name=by_chance),) if by_chance else ()
    groups = (ForwardGroup((choice, *twice)),)
    network = choice.build().network
    same = network is not None and made.network is not None and made.network.name == network.name
    dtype = made.placement.dtype if same and made.placement else "fp32"
    networks = NetworkOptions(options.weights, options.device, dtype, accept_license=options.accept_license)
    places = Placements(networks, source.config.ingest.resolution, results, (), machines)(groups, weights)
    return Judge(
        *(groups, weights, places, source.storage.address, truth.table, source.sha256(truth.table)),
        *(drawn, by_chance, others),
    )
