"""The table of conditions: what each one is. Annotators, codecs, transforms, training and evaluation all read it.

Which programs can make a condition is not said here but in ``annotators/catalogue.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from .kinds import Kind

if TYPE_CHECKING:
    from .annotator_records import ReadingRecord

Resize = Literal["nearest", "area", "none"]
Mirror = Literal["pixels", "negate-x", "swap-limbs", "none"]

RESIZE_OF_KIND: dict[str, Resize] = {
    "binary": "area",
    "gray8": "area",
    "gray16": "area",
    "rgb": "area",
    "labels": "nearest",
    "text": "none",
}


@dataclass(frozen=True)
class Condition:
    """One condition type.

    ``kind`` decides the codec and the array: binary, gray8 and labels are uint8 (H, W), gray16 is uint16 (H, W), rgb is
    uint8 (H, W, 3) in RGB order, text is a string. ``mirror`` says what a left-right flip does beside flipping pixels:
    ``negate-x`` turns the x of a normal, ``swap-limbs`` exchanges left and right limbs. ``licence_gate`` names the
    licence a user must accept before the condition is made. ``fidelity`` names the measure of how well a sampled
    picture follows the map.

    ``label_set`` names the classes of a label map's ids.

    ``own_name`` is the name of a table that has another than its condition, so that two variants of one condition can
    stand side by side in a dataset.

    Some things are known of a stored table alone (:mod:`stored`): ``x_channel``, where a normal's x is, None
    if that is not known; ``palette``, 768 bytes of RGB that paint a label map; ``is_imported``, whether a user's files
    were its source, and ``reading``, how these were read (:class:`maps.meaning.Reading`).
    """

    name: str
    kind: Kind
    summary: str
    mirror: Mirror = "pixels"
    licence_gate: str | None = None
    fidelity: str | None = None
    label_set: str = ""
    own_name: str = ""
    x_channel: int | None = None
    palette: bytes = b""
    is_imported: bool = False
    reading: ReadingRecord | None = field(default=None, compare=False)

    @property
    def resize(self) -> Resize:
        """How the map may be resized."""
        return RESIZE_OF_KIND[self.kind]

    @property
    def table(self) -> str:
        """The folder of the condition inside a dataset."""
        return self.own_name or ("captions" if self.kind == "text" else self.name)

    def in_table(self, table: str) -> Condition:
        """The condition as it is stored in a table of this name."""
        return self if table == self.table else replace(self, own_name=table)


CONDITIONS: dict[str, Condition] = {
    condition.name: condition
    for condition in (
        Condition("canny", "binary", "Canny edges", fidelity="edge-f1"),
        Condition("hough", "binary", "straight lines", fidelity="edge-f1"),
        Condition("hed", "gray8", "soft boundaries", fidelity="ssim"),
        Condition("scribble", "binary", "a scribble", fidelity="stroke-recall"),
        Condition(
            "pose",
            "rgb",
            "OpenPose COCO-18 skeleton",
            mirror="swap-limbs",
            licence_gate="openpose",
            fidelity="pck",
        ),
        Condition("segmentation", "labels", "ADE20K classes, 0 to 149", fidelity="miou", label_set="ade20k-150"),
        Condition("depth", "gray16", "inverse depth", fidelity="rmse"),
        Condition("normals", "rgb", "surface normals", mirror="negate-x", fidelity="mean-angle"),
        Condition("cartoon", "gray8", "cartoon line drawing", fidelity="ssim"),
        Condition("caption", "text", "captions", mirror="none"),
    )
}

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # of a table
NAME_RULE = "lower-case letters, digits, _ and -, 40 at most, and a letter first"


def imported(name: str, kind: Kind) -> Condition:
    """A user's own condition: aligned and trained on like the others, but with no annotator and so no fidelity."""
    return Condition(name, kind, "imported", mirror="pixels" if kind != "text" else "none")
