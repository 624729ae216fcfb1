"""The options of labels. Light: nothing here loads what the command works with."""

from __future__ import annotations

from dataclasses import dataclass

from controlmill.schemas.terminal.options import option

KINDS = ("segmentation", "pose", "depth")


@dataclass(frozen=True)
class LabelOptions:
    """How the labels of a dataset are found, and where they go."""

    layout: str = option("", "Layout of the labels, where it is not the one that their names tell.", panel="Labels")
    table: str = option("", "Name of the table, where it is not the condition's, e.g. depth_kitti.")
