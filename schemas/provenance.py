"""How tables were made, as footers and indexes say it.

Frozen dataclasses, read by :mod:`files.documents`: a field without a default must be there; one that is not named here
is an error, so that what is read can be written again without a loss. ``None`` stands for a field that is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

from pydantic import Field

from .bounds import Colour, Count, Finite, Free, KeptType, Pixel, Positive, Sha256, Word
from .files.documents import FORBID
from .kinds import KINDS, Kind


@dataclass(frozen=True)
class WeightsRecord:
    """A file of weights that a network was loaded from."""

    __pydantic_config__ = FORBID

    name: str
    origin: str
    sha256: Sha256
    licence: str


@dataclass(frozen=True)
class NetworkRecord:
    """The network that an annotator used."""

    __pydantic_config__ = FORBID

    name: str
    version: Count
    weights: tuple[WeightsRecord, ...]


@dataclass(frozen=True)
class PlacementRecord:
    """Where a network ran; see :class:`annotators.base.Placement`."""

    __pydantic_config__ = FORBID

    device: str
    dtype: Literal["fp32", "bf16", "fp16"]
    batch_size: Annotated[int, Field(ge=0, le=65536)]
    threads: Count
    compile: bool | None = None


@dataclass(frozen=True)
class DepthRecord:
    """What the values of a user's depth maps mean; see :class:`maps.meaning.Reading`."""

    __pydantic_config__ = FORBID

    meaning: Literal["metric", "inverse"]
    scale: Finite
    invalid: tuple[Finite, ...]


@dataclass(frozen=True)
class LabelSetRecord:
    """The label set of a user's maps; see :class:`maps.labels.LabelSet`."""

    __pydantic_config__ = FORBID

    name: str
    sha256: Sha256
    classes: tuple[str, ...]
    ids: tuple[tuple[Pixel, ...], ...]
    void: tuple[Pixel, ...]
    others_void: bool
    colours: tuple[Colour, ...]
    void_colours: tuple[Colour, ...]
    encoding: Literal["id", "ade20k"]


@dataclass(frozen=True)
class ReadingRecord:
    """How a user's maps were read; see :class:`maps.meaning.Reading`."""

    __pydantic_config__ = FORBID

    invert: bool | None = None
    white_from: Finite | None = None
    line_share: Finite | None = None
    depth: DepthRecord | None = None
    label_set: LabelSetRecord | None = None


@dataclass(frozen=True)
class AnnotatorRecord:
    """What made a condition's table: an annotator, or a user's files (``imported``, ``files``, ``keypoints``)."""

    __pydantic_config__ = FORBID

    condition: Word
    variant: Word
    version: Count
    params: Free | None = None
    packages: dict[str, str] | None = None
    x_channel: Annotated[int, Field(ge=0, le=2)] | None = None
    reading: ReadingRecord | None = None
    network: NetworkRecord | None = None
    placement: PlacementRecord | None = None

    @property
    def is_imported(self) -> bool:
        """Whether the maps are a user's."""
        return self.variant == "imported"

    @property
    def is_from_files(self) -> bool:
        """Whether no annotator made it, but a user's maps, captions or labels."""
        return self.is_imported or self.variant in ("files", "keypoints")

    @property
    def layout(self) -> str:
        """The layout of the labels that it was made from, of a dataset; else ""."""
        return str((self.params or {}).get("layout", "")) if self.is_from_files else ""


@dataclass(frozen=True)
class EncoderRecord:
    """What filled a cache: a base's encoder, by the sha256 of its weights. The sizes are those that it has."""

    __pydantic_config__ = FORBID

    version: Count
    sha256: Sha256
    stored: Literal["fp32", "fp16"]
    packages: dict[str, str]
    placement: PlacementRecord
    channels: Count | None = None
    factor: Count | None = None
    width: Count | None = None
    tokens: Count | None = None


@dataclass(frozen=True)
class CaptionsRecord:
    """Which captions are taken: the table that has them, and a digest where the images' says nothing of them.

    A cache's files say just the table; each has the digest of its own shard (:attr:`Provenance.captions_sha256`).
    """

    __pydantic_config__ = FORBID

    table: str
    sha256: Sha256 | None = None


@dataclass(frozen=True)
class LimitsRecord:
    """What pictures were refused for; see :class:`images.formats.Limits`."""

    __pydantic_config__ = FORBID

    max_pixels: Positive
    max_bytes: Positive
    min_side: Count


@dataclass(frozen=True)
class IngestRecord:
    """What decided the images; see :class:`pipelines.stages.ingest.IngestConfig`.

    ``columns`` are those that were kept from where the pictures come from, with their Arrow types.
    """

    __pydantic_config__ = FORBID

    version: Count
    resolution: Positive
    fit: Literal["crop", "bucket", "none"]
    limits: LimitsRecord
    white: Annotated[int, Field(ge=1, le=65535)] | None
    columns: dict[str, KeptType] | None = None


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
class FeaturesRecord:
    """The network whose features, or distances, are stored."""

    __pydantic_config__ = FORBID

    version: Count
    network: NetworkRecord
    packages: dict[str, str]
    placement: PlacementRecord


NEEDED: dict[str, str] = {  # kind of a table → what says how it was made
    "images": "ingest",
    **dict.fromkeys(("latents", "embeddings"), "encoder"),
    **dict.fromkeys((*KINDS, "text"), "annotator"),
    "scores": "scored",
    **dict.fromkeys(("inception", "clip", "clip_336", "clip_text", "lpips"), "features"),
    **dict.fromkeys(("true_inception", "true_clip_336", "true_clip_text"), "features"),
}


@dataclass(frozen=True)
class Provenance:
    """How a table was made. ``shard`` and the digests are a file's own; what else is here its table shares.

    ``kind`` is the kind of the maps; of a table without maps it is its name.

    Raises:
        ValueError: it does not say what made a table of that kind.
    """

    __pydantic_config__ = FORBID

    table: str
    kind: Literal[
        "sources",
        "images",
        "rejected",
        "latents",
        "embeddings",
        "scores",
        "inception",
        "clip",
        "clip_336",
        "true_inception",
        "true_clip_336",
        "true_clip_text",
        "clip_text",
        "lpips",
        Kind,
    ]
    ingest: IngestRecord | None = None
    listing: Free | None = None
    packages: dict[str, str] | None = None
    annotator: AnnotatorRecord | None = None
    encoder: EncoderRecord | None = None
    mirrored: bool | None = None
    captions: CaptionsRecord | None = None
    samples: SamplesRecord | None = None
    drawn: DrawnRecord | None = None
    scored: ScoredRecord | None = None
    features: FeaturesRecord | None = None
    shard: Count | None = None
    images_sha256: Sha256 | None = None
    captions_sha256: Sha256 | None = None

    def __post_init__(self) -> None:
        name = NEEDED.get(self.kind)
        if name and getattr(self, name) is None:
            raise ValueError(f"no {name}")

    @property
    def is_condition(self) -> bool:
        """Whether the table holds maps or captions."""
        return NEEDED.get(self.kind) == "annotator"

    @property
    def is_aligned(self) -> bool:
        """Whether the table was made from the images."""
        return NEEDED.get(self.kind) in ("annotator", "encoder", "scored", "features")

    @property
    def shared(self) -> Provenance:
        """What all files of the table share."""
        return replace(self, shard=None, images_sha256=None, captions_sha256=None)

    @property
    def map_kind(self) -> Kind:
        """The kind of a condition's table."""
        assert self.annotator is not None
        return cast(Kind, self.kind)

    @property
    def made_by(self) -> AnnotatorRecord:
        """What made a condition's table."""
        assert self.annotator is not None
        return self.annotator

    @property
    def encoded_by(self) -> EncoderRecord:
        """What filled a cache."""
        assert self.encoder is not None
        return self.encoder
