"""What made the tables of results: samplers, judges, scores and features.

Frozen dataclasses, read by :mod:`files.documents` under the rules of :mod:`provenance`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .annotator_records import AnnotatorRecord, NetworkRecord, PlacementRecord, WeightsRecord
from .bounds import Count, Finite, Free, Positive, Sha256
from .files.documents import FORBID


@dataclass(frozen=True)
class ControlNetRecord:
    """A ControlNet that pictures were sampled with: its name without the paths of this machine, and its weights."""

    __pydantic_config__ = FORBID

    name: str
    sha256: Sha256
    strength: Finite


@dataclass(frozen=True)
class SamplerRecord:
    """What sampled pictures: the base by the digest of its weights, ControlNets, and the settings of the sampler."""

    __pydantic_config__ = FORBID

    version: Count
    base: str
    base_sha256: Sha256
    controlnets: tuple[ControlNetRecord, ...]
    settings: Free
    packages: dict[str, str]
    placement: PlacementRecord
    captioner: AnnotatorRecord | None = None


@dataclass(frozen=True)
class SamplesRecord:
    """What pictures of results are: samples for the rows of another dataset.

    Args:
        source_sha256: fingerprint of the images that they were made for.
        condition: the table of the maps that they are to follow, and ``condition_sha256`` its fingerprint.
        protocol: the name of the protocol that they were made by.
        prompts: the kinds of prompts, in the order in which the pictures of a row stand.
        pictures_per_row: for each kind.
        sampler: what made them; None: another method, whose pictures were given.
    """

    __pydantic_config__ = FORBID

    source_sha256: Sha256
    condition: str
    condition_sha256: Sha256
    protocol: str
    prompts: tuple[str, ...]
    pictures_per_row: Positive
    sampler: SamplerRecord | None = None


@dataclass(frozen=True)
class DrawnRecord:
    """Of a judge's table: the table of the truth whose drawn parameters, ``columns``, the judge took.

    ``of_others``: those that were drawn for other rows than the pictures were made for.
    """

    __pydantic_config__ = FORBID

    table: str
    sha256: Sha256
    columns: tuple[str, ...]
    of_others: bool | None = None


@dataclass(frozen=True)
class ScoredRecord:
    """What scored pictures: the measures, the truth that they were compared with, and the judge's table.

    ``by_chance`` is the judge's table that was compared with other rows' maps, where that is another.
    """

    __pydantic_config__ = FORBID

    version: Count
    measures: tuple[str, ...]
    truth: str
    truth_sha256: Sha256
    judge: str
    judge_sha256: Sha256
    packages: dict[str, str]
    by_chance: str | None = None
    by_chance_sha256: Sha256 | None = None


@dataclass(frozen=True)
class PictureScoresRecord:
    """What scored pictures by no map: the measures, the tables of features, and weights beside those of these tables.

    ``features``: table → its fingerprint.
    """

    __pydantic_config__ = FORBID

    version: Count
    measures: tuple[str, ...]
    features: dict[str, Sha256]
    weights: tuple[WeightsRecord, ...]
    packages: dict[str, str]


@dataclass(frozen=True)
class FeaturesRecord:
    """The network whose features, or distances, are stored."""

    __pydantic_config__ = FORBID

    version: Count
    network: NetworkRecord
    packages: dict[str, str]
    placement: PlacementRecord
