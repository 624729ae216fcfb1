"""Label sets: what the values of a label map's files mean, which classes they are stored as, and how these are painted.

Stored label maps hold class ids from 0; 255 is void: no class, painted black, and left out of every measure.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..annotator_records import LabelSetRecord
from ..errors import MillError, Refused
from ..fingerprint import fingerprint

VOID = 255
MOST_CLASSES = 254  # 8 bits, without void and one number for what is in no set
UNKNOWN = 254
ROWS = 256  # that are looked up at once


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of their stored ids, and what they are in files.

    Args:
        name: for people.
        classes: their names.
        ids: for each class the values of a file that mean it.
        void: the values that mean no class.
        others_void: whether all other values mean no class too.
        colours: for each class its colour as six hex digits; none where the set has no colours of its own.
        void_colours: colours of a file in RGB that mean no class, black among them unless a class has it.
        encoding: how a file holds a value: ``id``, one channel; ``ade20k``, R / 10 * 256 + G of three channels.
    """

    name: str
    classes: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    void: tuple[int, ...] = ()
    others_void: bool = False
    colours: tuple[str, ...] = ()
    void_colours: tuple[str, ...] = ()
    encoding: str = "id"

    def provenance(self) -> dict[str, Any]:
        """All of it, and its digest: the file of a user's own set may be gone when its table is read."""
        said = {key: value for key, value in vars(self).items() if key != "name"}
        return {"name": self.name, "sha256": fingerprint(said), **said}

    @classmethod
    def of(cls, stored: LabelSetRecord) -> LabelSet:
        """The set that a table's provenance holds.

        Raises:
            MillError: it contradicts itself.
        """
        found = cls(
            *(stored.name, stored.classes, stored.ids, stored.void, stored.others_void),
            *(stored.colours, stored.void_colours, stored.encoding),
        )
        try:
            found.check()
        except ValueError as error:
            raise MillError(f"the label set {found.name} of the table is damaged: {error}") from error
        return found

    def check(self) -> None:
        """Raise ValueError where it contradicts itself."""
        count = len(self.classes)
        if not 1 <= count <= MOST_CLASSES or len(set(self.classes)) < count:
            raise ValueError(f"classes: from 1 to {MOST_CLASSES} different names")
        if len(self.ids) != count:
            raise ValueError(f"ids: {len(self.ids)} for {count} classes")
        if self.colours and len(self.colours) != count:
            raise ValueError(f"colours: {len(self.colours)} for {count} classes")
        meant = Counter([*(value for several in self.ids for value in several), *self.void])
        twice = [value for value, times in meant.items() if times > 1]
        if twice:
            raise ValueError(f"the value {twice[0]} has two meanings")

    def as_stored(self) -> LabelSet:
        """The set of files that hold class ids from 0, and 255 for void, as tables do; or the set's colours."""
        ids = tuple((number,) for number in range(len(self.classes)))
        return LabelSet(self.name, self.classes, ids, (VOID,), False, self.colours, self.void_colours)

    def palette(self) -> bytes:
        """768 bytes of RGB: the classes' colours, or those of :func:`label_palette`, then black."""
        colours = np.zeros((256, 3), np.uint8)
        count = len(self.classes)
        spread = np.frombuffer(label_palette(), np.uint8).reshape(256, 3)
        colours[:count] = [_rgb(colour) for colour in self.colours] if self.colours else spread[1 : count + 1]
        return colours.tobytes()

    def classes_of(self, values: np.ndarray) -> np.ndarray:
        """Class ids, uint8 (H, W), of a file's pixels: (H, W), or (H, W, 3) in RGB order.

        Raises:
            Refused: wrong_kind, where a value is not of the set.
        """
        if values.ndim == 2:
            return _looked_up(values, _ids_table(self), self._refuse)
        if self.encoding == "ade20k":
            coded = values[..., 0].astype(np.uint16) // 10 * 256 + values[..., 1]
            return _looked_up(coded, _ids_table(self), self._refuse)
        return _looked_up(values, _colours_table(self), self._refuse)

    def _refuse(self, value: int, share: float, colour: bool) -> Refused:
        what = f"colour #{value:06x}" if colour else f"value {value}"
        text = f"{what} ({share:.2%} of the map) is not of the label set {self.name}{'' if colour else self._has()}"
        return Refused("wrong_kind", f"{text}; --label-set says which set the files have")

    def _has(self) -> str:
        values = sorted(value for several in self.ids for value in several)
        void = f", void {', '.join(map(str, self.void))}" if 0 < len(self.void) <= 2 else ""
        return f" (ids {values[0]} to {values[-1]}{void})" if values and self.encoding == "id" else ""


def label_palette() -> bytes:
    """768 bytes of RGB: 255 distinct colours by spreading the bits of the id over the channels (the PASCAL VOC scheme);
    void is black.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * step + channel)) & 1) << (7 - step)).astype(np.uint8)
    colours[VOID] = 0
    return colours.tobytes()


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16)


@functools.lru_cache(maxsize=8)
def _ids_table(found: LabelSet) -> np.ndarray:
    """Class by value, 16 bits."""
    table = np.full(65536, VOID if found.others_void else UNKNOWN, np.uint8)
    table[list(found.void)] = VOID
    for number, values in enumerate(found.ids):
        table[list(values)] = number
    return table


@functools.lru_cache(maxsize=2)
def _colours_table(found: LabelSet) -> np.ndarray:
    """Class by R * 65536 + G * 256 + B; where classes share a colour it is the first's."""
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    table[0] = VOID
    table[[int(colour, 16) for colour in found.void_colours]] = VOID
    for number, colour in reversed(list(enumerate(found.colours))):
        table[int(colour, 16)] = number
    return table


def _looked_up(values: np.ndarray, table: np.ndarray, refuse: Callable[[int, float, bool], Refused]) -> np.ndarray:
    colour = values.ndim == 3
    classes = np.empty(values.shape[:2], np.uint8)
    unknown = None
    count = 0
    for top in range(0, len(values), ROWS):
        part = values[top : top + ROWS]
        if colour:
            part = part.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        found = table[part]
        bad = found == UNKNOWN
        if bad.any():
            unknown = int(part[bad][0]) if unknown is None else unknown
            count += int(bad.sum())
        classes[top : top + ROWS] = found
    if unknown is not None:
        raise refuse(unknown, count / classes.size, colour)
    return classes
