"""How a user's maps are read: what was said of a table's files, and a file's values once they are understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..conditions import Condition
from ..kinds import Kind
from .label_files import named_set
from .labels import LabelSet

if TYPE_CHECKING:
    from PIL import Image

WHITE_FROM = 0.25  # of white: a pixel of a binary map that has more than two values is white from there on
LINE_SHARE = 0.4  # of what a line of one pixel has of a pixel that it crosses: half of it, less what rounding takes
Meaning = Literal["", "metric", "inverse"]


@dataclass(frozen=True)
class Reading:
    """How the files of one table are read.

    Args:
        kind: of the map.
        invert: of binary and gray8: the files are dark on light.
        meaning: of gray16: ``metric``, distance; ``inverse``, inverse depth or disparity of any range; "", the map
            itself, 0 to 65535 (0 to 255 in files of 8 bits).
        scale: values in a metre, of ``metric``.
        invalid: values that mean that nothing is known, of ``metric`` and ``inverse``.
        labels: of labels; None: ids are taken as they are.
    """

    kind: Kind
    invert: bool = False
    meaning: Meaning = ""
    scale: float = 1.0
    invalid: tuple[float, ...] = ()
    labels: LabelSet | None = None

    @classmethod
    def of(cls, condition: Condition) -> Reading:
        """How files for the maps of a condition are read: as its table's were, else as they are stored."""
        stored = condition.reading
        if stored and stored.label_set:
            labels: LabelSet | None = LabelSet.of(stored.label_set)
        else:
            labels = named_set(condition.label_set).as_stored() if condition.label_set else None
        invert = bool(stored and stored.invert)
        if stored and stored.depth:
            return cls(condition.kind, invert, stored.depth.meaning, stored.depth.scale, stored.depth.invalid, labels)
        return cls(condition.kind, invert, labels=labels)

    def described(self) -> str:
        """For people, in a few words."""
        if self.kind == "labels":
            known = self.labels
            return f"label set {known.name}, {len(known.classes)} classes" if known else "ids as they are, 255 is void"
        if not self.meaning:
            return "dark on light, inverted" if self.invert else f"{self.kind} as it is"
        what = f"metric depth, {self.scale:g} to the metre" if self.meaning == "metric" else "inverse depth"
        return ", ".join((what, *(f"{value:g} is unknown" for value in self.invalid)))

    def provenance(self) -> dict[str, Any]:
        """All that decides values."""
        if self.kind == "labels":
            return {"label_set": self.labels.provenance()} if self.labels else {}
        said: dict[str, Any] = {}
        if self.kind in ("binary", "gray8"):
            said["invert"] = self.invert
        if self.kind == "binary":
            said.update(white_from=WHITE_FROM, line_share=LINE_SHARE)
        if self.meaning:
            said["depth"] = {"meaning": self.meaning, "scale": self.scale, "invalid": list(self.invalid)}
        return said


@dataclass(frozen=True)
class Plane:
    """A map at its file's size, in the mode that its kind is resized in: RGB; F for gray16; L otherwise, binary 0 and
    255. ``valid`` is F, 1 where the value is known, else 0; None: everywhere.
    """

    values: Image.Image
    valid: Image.Image | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.values.size
