"""What measures and protocols need: what ``doctor`` tells of them, and whose files ``weights`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controlmill.annotators.catalogue import Choice, parse_condition
from controlmill.annotators.examination import examine, weights_here
from controlmill.annotators.runtime.weights import WeightsFile
from controlmill.schemas.errors import MillError

from .features.catalogue import PICTURE_MEASURES
from .protocols.protocol import Protocol, protocol_names, read_protocol


def examine_all(folder: str | None) -> dict[str, Any]:
    """What :func:`annotators.examination.examine` says, and of evaluations.

    Returns:
        With ``measures``, those of pictures (``measure``, ``ready``, ``weights``), and ``protocols``: ``protocol``,
        ``title``, ``judge`` (null: what made the true maps), ``measures``, and whether it is ``ready``.
    """
    measures = [
        {"measure": name, **weights_here(measure.weights, folder)} for name, measure in PICTURE_MEASURES.items()
    ]
    return {
        **examine(folder),
        "measures": measures,
        "protocols": [_protocol(name, folder) for name in protocol_names()],
    }


def _protocol(name: str, folder: str | None) -> dict[str, Any]:
    protocol = read_protocol(name)
    return {
        "protocol": name,
        "title": protocol.title,
        "judge": protocol.judge or None,
        "measures": list(protocol.measures),
        "ready": weights_here([*files_of_protocol(protocol)], folder)["ready"],
    }


def files_of_measures(names: Sequence[str]) -> dict[WeightsFile, list[str]]:
    """Files of weights → the measures of pictures that need them; ``all`` stands for every measure.

    Raises:
        MillError: there is no such measure.
    """
    users: dict[WeightsFile, list[str]] = {}
    for name in PICTURE_MEASURES if list(names) == ["all"] else names:
        if name not in PICTURE_MEASURES:
            raise MillError(f"no measure of pictures is called {name!r}; there are {', '.join(PICTURE_MEASURES)}")
        for file in PICTURE_MEASURES[name].weights:
            users.setdefault(file, []).append(name)
    return users


def judge_of(protocol: Protocol) -> Choice | None:
    """The annotator that a protocol names as its judge."""
    return parse_condition(protocol.judge) if protocol.judge else None


def files_of_protocol(protocol: Protocol) -> dict[WeightsFile, list[str]]:
    """Files of weights of a protocol's judge and measures → what needs them."""
    judge = judge_of(protocol)
    network = judge.build().network if judge else None
    of_judge = {file: [f"judge {protocol.judge}"] for file in (network.weights if network else ())}
    return {**of_judge, **files_of_measures(protocol.measures_of_pictures())}
