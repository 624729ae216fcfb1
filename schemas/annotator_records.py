"""What made maps: annotators, their networks and weights, and what the values of a user's own files mean.

Frozen dataclasses, read by :mod:`files.documents` under the rules of :mod:`provenance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from .bounds import Colour, Count, Finite, Free, Pixel, Sha256, Word
from .files.documents import FORBID


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
