"""A label source: the labels of one table, which one belongs to a picture, and how it becomes what the table stores.

What is imported goes through here, a user's own maps and the labels of a dataset alike: cut and scaled exactly as its
picture was. A new kind is a subclass of :class:`LabelSource`, or of :class:`MapSource` where a label is a map already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from controlmill.schemas.conditions import Condition
from controlmill.schemas.errors import Refused
from controlmill.schemas.fingerprint import package_versions, sha256_bytes
from controlmill.schemas.images.codecs import encode_map
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.meaning import Plane, Reading
from controlmill.schemas.maps.user_maps import coverage, scaled_map

from .index import Label, LabelIndex

VERSION = 2
MOST_ENLARGED = 8  # times a side: a map coarser than that says nothing of its picture
Parts = tuple[bytes, ...]  # what a picture's label is made of: a file, or a file and its mask…
Box = tuple[float, float, float, float]  # left, top, right, bottom


class Labels(Protocol):
    """The labels of a source as they are now; several threads read at a time."""

    def read(self, picture: str, max_bytes: int) -> Parts:
        """What the label of a picture is made of, by the name of the picture in its corpus.

        Raises:
            Refused: missing, ambiguous, too_many_bytes, unreadable.
            JobFault: no label can be read any more.
        """
        ...


@runtime_checkable
class IndexedLabels(Labels, Protocol):
    """Labels that were listed, so that they can be counted against pictures."""

    @property
    def index(self) -> LabelIndex:
        """All of them."""
        ...

    def find(self, picture: str) -> Label:
        """Which one is a picture's.

        Raises:
            Refused: missing, ambiguous.
        """
        ...


@dataclass(frozen=True)
class LabelSource(ABC):
    """The labels of one table. Picklable.

    Args:
        place: the folder or file that they are in.
        condition: what they become, in the table that they go to.
    """

    place: str
    condition: Condition

    what: ClassVar[str] = "label"  # as users call one
    rule: ClassVar[str] = ""  # which is a picture's, as a message goes on

    @property
    def columns(self) -> dict[str, str]:
        """Columns beside those of every condition, name → Arrow type; ``file_sha256`` tells whether a label changed."""
        return {"file_sha256": "string"}

    @abstractmethod
    def made_by(self) -> dict[str, Any]:
        """All that decides values, as a table says it; see :class:`schemas.annotator_records.AnnotatorRecord`."""

    @abstractmethod
    def open(self) -> Labels:
        """Find what labels there are: once for each process and job.

        Raises:
            MillError: the place cannot be read as what it is taken for.
        """

    def listed(self) -> IndexedLabels:
        """All of them, to be counted against the pictures.

        Raises:
            MillError: see :meth:`open`.
        """
        labels = self.open()
        assert isinstance(labels, IndexedLabels)
        return labels

    @abstractmethod
    def row_of(self, parts: Parts, row: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """The table's row, without its key.

        Args:
            parts: what :meth:`Labels.read` gave.
            row: the picture's row of ``images``: its key, name, sizes and crop box.
            limits: of pictures that are decoded.

        Raises:
            Refused: it is not a label of that picture; with a reason.
        """

    def input_folders(self) -> tuple[str, ...]:
        """Folders that are no part of a corpus, though they may be inside it."""
        return ()

    def messages(self) -> Iterator[str]:
        """What a user is to know before it starts, in lines."""
        yield from ()


@dataclass(frozen=True)
class MapSource(LabelSource):
    """Labels that are maps of their pictures' shape. ``reading`` says what their values mean."""

    reading: Reading

    @property
    def columns(self) -> dict[str, str]:
        """See :attr:`LabelSource.columns`; depth of a stated meaning has ``raw_min`` and ``raw_max`` too."""
        depth = {"raw_min": "float32", "raw_max": "float32"} if self.reading.meaning else {}
        return {**super().columns, **depth}

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        return {
            "condition": self.condition.name,
            "variant": "imported",
            "version": VERSION,
            "reading": self.reading.provenance(),
            "packages": package_versions("pillow", "numpy"),
        }

    @abstractmethod
    def plane(self, parts: Parts, limits: Limits) -> Plane:
        """The map, at its own size.

        Raises:
            Refused: it is not a map of that kind.
        """

    def row_of(self, parts: Parts, row: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """See :meth:`LabelSource.row_of`."""
        array, measured = refit(self.plane(parts, limits), self.reading, row)
        palette = self.reading.labels.palette() if self.reading.labels else None
        return {**measured, **map_row(self.condition, array, row, palette)}


def map_row(
    condition: Condition, array: np.ndarray, row: Mapping[str, Any], palette: bytes | None = None
) -> dict[str, Any]:
    """A map of its picture's size as a table stores it; ``palette`` paints labels, None is the default."""
    encoded = encode_map(condition.kind, array, (row["height"], row["width"]), palette)
    stored = {"bytes": encoded, "path": f"{row['key']}.png"}
    return {"map": stored, "coverage": coverage(condition.kind, array)}


def digest_of(parts: Parts) -> str:
    """The sha256 of a label: of its one part, or of the digests of several."""
    digests = [sha256_bytes(part) for part in parts]
    return digests[0] if len(digests) == 1 else sha256_bytes("".join(digests).encode())


def window(size: tuple[int, int], row: Mapping[str, Any]) -> Box:
    """What was cut from a picture, in the pixels of a label of ``size`` (width, height).

    Raises:
        Refused: size_mismatch, where the label is not of the original picture's shape.
    """
    original = row["original_width"], row["original_height"]
    width, height = size
    fx, fy = width / original[0], height / original[1]
    if abs(width - original[0] * fy) > 1 and abs(height - original[1] * fx) > 1:
        raise Refused("size_mismatch", f"the map is {width}x{height}, its picture {original[0]}x{original[1]}")
    x, y, w, h = (row[f"crop_{name}"] for name in "xywh")
    return x * fx, y * fy, min((x + w) * fx, width), min((y + h) * fy, height)


def map_window(size: tuple[int, int], row: Mapping[str, Any]) -> Box:
    """:func:`window` of a map, which must not be far too small either."""
    box = window(size, row)
    width, height = row["width"], row["height"]
    if width > MOST_ENLARGED * (box[2] - box[0]) or height > MOST_ENLARGED * (box[3] - box[1]):
        raise Refused("size_mismatch", f"a map of {size[0]}x{size[1]} is too coarse for {width}x{height}")
    return box


def refit(plane: Plane, reading: Reading, row: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, float]]:
    """The map through its image's geometry, the same crop box, scaled to the same size; and what was measured of it.

    Raises:
        Refused: size_mismatch, where the map is not of the original picture's shape, or far too small; wrong_kind.
    """
    return scaled_map(plane, reading, (row["width"], row["height"]), map_window(plane.size, row))
