"""The options of labels. Light: nothing here loads what the command works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from controlmill.schemas.maps.frames import Frame
from controlmill.schemas.terminal.options import option

KINDS = ("segmentation", "pose", "depth", "normals", "edges", "captions")
Pick = Literal["first", "longest", "drawn"]
Annotators = Literal["mean", "first", "union"]


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
