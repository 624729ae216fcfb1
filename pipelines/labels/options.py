"""The options of labels. Light: nothing here loads what the command works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from controlmill.schemas.maps.frames import Frame
from controlmill.schemas.terminal.options import flag_of, option, raise_all

KINDS = ("segmentation", "pose", "depth", "normals", "edges", "captions")
Pick = Literal["first", "longest", "drawn"]
Annotators = Literal["mean", "first", "union"]
ONLY_FOR = {  # flag → the kind of labels that it is about
    "frame": "normals",
    "annotators": "edges",
    **dict.fromkeys(("pick", "picture_column", "caption_column"), "captions"),
}


@dataclass(frozen=True)
class LabelOptions:
    """How the labels of a dataset are found, and where they go."""

    layout: str = option(
        "",
        "Layout of the labels' files; an unknown name lists all.",
        panel="Labels",
        shown="found from their names",
    )
    table: str = option("", "Name of the table, e.g. depth_kitti.", shown="the layout's or the condition's")
    frame: Frame | None = option(
        None,
        "Axes of normals. opengl: x right, y up, z towards the camera. opencv: x right, y down, z away. dsine: as its "
        "files are, x left, y up, z towards the camera.",
        shown="the layout's, where it has one",
    )
    annotators: Annotators = option(
        "mean", "Edges that several people drew: the share who drew each (mean), the first's, or any's (union)."
    )
    pick: Pick = option(
        "first", "Of several captions of a picture: the first, the longest, or one drawn by the row's key."
    )
    picture_column: str = option(
        "", "Column of a list of captions that names the pictures.", shown="file_name, image, path, key, uid…"
    )
    caption_column: str = option("", "Column of a list that holds the captions.", shown="caption, text, prompt")

    def check_kind(self, kind: str) -> None:
        """Raise MillError where something is given that is about labels of another kind."""
        others = [name for name, about in ONLY_FOR.items() if about != kind]
        given = [name for name in others if getattr(self, name) != getattr(LabelOptions, name)]
        raise_all(f"{flag_of(name)} is for labels of {ONLY_FOR[name]}, not of {kind}" for name in given)
