"""How tables were made, as footers and indexes say it.

Frozen dataclasses, read by :mod:`files.documents`: a field without a default must be there; one that is not named here
is an error, so that what is read can be written again without a loss. ``None`` stands for a field that is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

from pydantic import Field

from .annotator_records import AnnotatorRecord, PlacementRecord
from .bounds import Count, Free, KeptType, Positive, Sha256
from .files.documents import FORBID
from .kinds import KINDS, Kind
from .result_records import DrawnRecord, FeaturesRecord, PictureScoresRecord, SamplesRecord, ScoredRecord


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


NEEDED: dict[str, str] = {  # kind of a table → what says how it was made
    "images": "ingest",
    **dict.fromkeys(("latents", "embeddings"), "encoder"),
    **dict.fromkeys((*KINDS, "text"), "annotator"),
    "scores": "scored",
    "picture_scores": "picture_scores",
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
        "picture_scores",
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
    picture_scores: PictureScoresRecord | None = None
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
        return NEEDED.get(self.kind) in ("annotator", "encoder", "scored", "picture_scores", "features")

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
