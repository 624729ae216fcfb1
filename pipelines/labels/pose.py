"""People's key points in COCO's form (person_keypoints_*.json, Lin et al. 2014), as OpenPose's skeletons.

Of COCO's 17 points OpenPose knows all; its 18th, the neck, is the middle of the shoulders where both are labelled, as
in its own training (Cao et al. 2017). Points that are labelled but hidden (visibility 1) are drawn too, as OpenPose
finds them. A picture in which nobody is labelled is an empty skeleton; one in which people are, but none with points
(crowds, people far away), is a null, since black would say that nobody is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from controlmill.annotators.pose_decode import PARTS
from controlmill.annotators.skeletons import COLUMNS, draw_skeletons, skeleton_columns
from controlmill.schemas.conditions import Condition
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.fingerprint import package_versions
from controlmill.schemas.images.formats import Limits

from .coco import find_picture, index_of, numbers_of, read_elements, size_of
from .index import Label, LabelIndex
from .source import Box, LabelSource, Parts, map_row, window

VERSION = 1
LAYOUT = "coco-keypoints"
COCO_POINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)
NECK = 1
OPENPOSE_POINTS = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye"),
    *("right_ear", "left_ear"),
)
HIDDEN, VISIBLE = 0.5, 1.0  # scores
MOST_PEOPLE = 1000  # of a picture


class Joint(NamedTuple):
    """A part: x and y from 0 to 1 of the stored picture, and its score."""

    x: float
    y: float
    score: float


@dataclass(frozen=True)
class CocoKeypoints(LabelSource):
    """``place`` is the JSON. ``n_unlabelled``: people and crowds of a picture that have no points."""

    @classmethod
    def at(cls, place: str, condition: Condition) -> CocoKeypoints:
        """The source of a file.

        Raises:
            MillError: it cannot be read, or its points are not COCO's of people.
        """
        for _, category in read_elements(place, ("categories",)):
            if "keypoints" in category and category["keypoints"] != list(COCO_POINTS):
                raise MillError(
                    f"{place}: its key points are not COCO's 17 of people ({', '.join(COCO_POINTS[:3])}, …)"
                )
        return cls(place, condition)

    @property
    def columns(self) -> dict[str, str]:
        """See :attr:`LabelSource.columns`; those of an annotated pose, and ``n_unlabelled``."""
        return {**COLUMNS, "n_unlabelled": "int32", **super().columns}

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        return {
            "condition": self.condition.name,
            "variant": "keypoints",
            "version": VERSION,
            "params": {"layout": LAYOUT},
            "packages": package_versions("opencv", "numpy"),
        }

    def open(self) -> KeypointsFound:
        """Read the JSON."""
        return KeypointsFound(index_of(self.place, _note, size_of))

    def messages(self) -> Iterator[str]:
        """See :meth:`LabelSource.messages`."""
        yield f"{self.condition.table}: COCO's key points of people, drawn as OpenPose's skeletons, from {self.place}"

    def row_of(self, parts: Parts, row: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """See :meth:`LabelSource.row_of`.

        Raises:
            Refused: size_mismatch; unlabelled, where there are people, but none with points; too_many_people.
        """
        label = json.loads(parts[0])
        people, unlabelled = label["people"], label["unlabelled"]
        if len(people) > MOST_PEOPLE:
            raise Refused("too_many_people", f"{len(people)} people; the cap is {MOST_PEOPLE}")
        if unlabelled and not people:
            raise Refused("unlabelled", f"{unlabelled} people or crowds, none with key points")
        height, width = row["height"], row["width"]
        box = window(label["size"] or (row["original_width"], row["original_height"]), row)
        placed = [_in_window(openpose_points(points), box, height, width) for points in people]
        seen = [person for person in placed if any(person)]
        drawing = draw_skeletons(seen, height, width)
        columns = {**skeleton_columns(seen, height, width), "n_unlabelled": unlabelled}
        return {**columns, **map_row(self.condition, drawing, row)}


@dataclass(frozen=True)
class KeypointsFound:
    """The labels of a file; see :class:`source.Labels`."""

    index: LabelIndex

    def find(self, picture: str) -> Label:
        """The label of a picture: its entry in ``images``."""
        return find_picture(self.index, picture)

    def read(self, picture: str, max_bytes: int) -> Parts:
        """The picture's size, the points of its people, and how many have none; see :meth:`source.Labels.read`."""
        label = self.find(picture)
        people = [json.loads(note) for note in self.index.notes(label.id)]
        labelled = [points for points in people if points]
        size = json.loads(label.about) if label.about else None
        found = {"size": size, "people": labelled, "unlabelled": len(people) - len(labelled)}
        return (json.dumps(found, sort_keys=True).encode(),)


def openpose_points(values: list[float]) -> list[tuple[float, float, float] | None]:
    """COCO's 17 points (x, y, visibility) as OpenPose's 18 (x and y in the same pixels, score; None: not there)."""
    by_name = {
        name: (values[3 * i], values[3 * i + 1], VISIBLE if values[3 * i + 2] >= 2 else HIDDEN)
        for i, name in enumerate(COCO_POINTS)
        if values[3 * i + 2] > 0
    }
    left, right = by_name.get("left_shoulder"), by_name.get("right_shoulder")
    if left and right:
        by_name["neck"] = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, min(left[2], right[2]))
    return [by_name.get(name) for name in OPENPOSE_POINTS]


def _in_window(
    points: list[tuple[float, float, float] | None], box: Box, height: int, width: int
) -> list[Joint | None]:
    """Where points are in the stored picture; None for those that were cut off. A point is the middle of its pixel."""
    across, down = width / (box[2] - box[0]), height / (box[3] - box[1])
    placed: list[Joint | None] = []
    for point in points:
        joint = None
        if point:
            x, y = (point[0] + 0.5 - box[0]) * across - 0.5, (point[1] + 0.5 - box[1]) * down - 0.5
            if -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5:
                joint = Joint(max(x, 0.0) / width, max(y, 0.0) / height, point[2])
        placed.append(joint)
    assert len(placed) == PARTS
    return placed


def _note(annotation: dict[str, Any]) -> str:
    """The points of a person, or [] for one without any, and for crowds."""
    points = numbers_of(annotation.get("keypoints"), 3 * len(COCO_POINTS), "keypoints")
    labelled = any(points[2::3]) and not annotation.get("iscrowd")
    return json.dumps(points if labelled else [])
