"""A layout of labels: how a dataset names its files, which picture each belongs to, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pixels import GATE
from controlmill.schemas.maps.meaning import Plane, Reading
from controlmill.schemas.maps.planes import read_map

from .source import Parts

Decode = Callable[[Parts, Reading, Limits], Plane]


def decode_file(parts: Parts, reading: Reading, limits: Limits) -> Plane:
    """A label that is one picture, or one array."""
    return read_map(parts[0], reading, limits, GATE.hold)


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset's labels lie in files.

    Args:
        name: as ``--layout`` has it.
        kind: what they are labels of: segmentation, pose, depth, normals, edges, captions.
        summary: what they are, for people.
        label: pattern of a label's path, in any case. It fits the path's end, from the start of a name on; the folder's
            own name is looked at too. What its groups hold is the key that a label and its picture share.
        picture: pattern of a picture's name in its corpus, in the same way.
        label_set: of segmentation: the classes.
        table: name of the condition and its table, where it is not the known one of that kind.
        scale: of depth: values in a metre.
        invalid: of depth: values that mean unknown.
        also: files beside a label that belong to it: (the label's ending, theirs).
        decode: what makes a map of them.
        is_file: whether all labels are in one file, instead of a folder.
    """

    name: str
    kind: str
    summary: str
    label: str = ""
    picture: str = r"([^/]+)\.\w+"
    label_set: str = ""
    table: str = ""
    scale: float = 1.0
    invalid: tuple[float, ...] = ()
    also: tuple[tuple[str, str], ...] = ()
    decode: Decode = decode_file
    is_file: bool = False
