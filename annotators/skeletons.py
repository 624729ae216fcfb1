"""Skeletons of OpenPose's 18 parts: how they are drawn, and how their points are stored beside the map.

The drawing gives what ControlNet 1.1 was trained on, pixel for pixel: for each person, an ellipse of half-width 4 for
each limb in 0.6 of its colour, then a disc of radius 4 for each part; nothing is blended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from controlmill.schemas.maps.transforms import POSE_COLOURS

from .pose_decode import LAST_STARTING_LIMB, LIMBS, PARTS

RADIUS = 4
LIMB_SHARE = 0.6
DRAWN_LIMBS = tuple((a, b) for a, b, _ in LIMBS[: LAST_STARTING_LIMB + 1])
COLUMNS: Mapping[str, str] = {
    "keypoints": "list<float32>",
    "scores": "list<float32>",
    "n_people": "int32",
    "visible_fraction": "float32",
}


class Point(Protocol):
    """A part that was found: x and y from 0 to 1 of the picture, and how sure it is."""

    @property
    def x(self) -> float:
        """Across."""

    @property
    def y(self) -> float:
        """Down."""

    @property
    def score(self) -> float:
        """The greater, the surer."""


People = Sequence[Sequence[Point | None]]  # 18 of each, in COCO-18 order; None for a part that is not seen


def draw_skeletons(people: People, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3), RGB, on black."""
    canvas = np.zeros((height, width, 3), np.uint8)
    for points in people:
        at = [None if point is None else (point.x * float(width), point.y * float(height)) for point in points]
        for (a, b), colour in zip(DRAWN_LIMBS, POSE_COLOURS, strict=False):
            start, end = at[a], at[b]
            if start and end:
                _draw_limb(canvas, start, end, tuple(int(value * LIMB_SHARE) for value in colour))
        for place, colour in zip(at, POSE_COLOURS, strict=True):
            if place:
                cv2.circle(canvas, (int(place[0]), int(place[1])), RADIUS, colour, thickness=-1)
    return canvas


def _draw_limb(
    canvas: np.ndarray, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, ...]
) -> None:
    across, down = start[0] - end[0], start[1] - end[1]
    middle = int((start[0] + end[0]) / 2), int((start[1] + end[1]) / 2)
    half = int((down**2 + across**2) ** 0.5 / 2)
    turned = int(math.degrees(math.atan2(down, across)))
    outline = cv2.ellipse2Poly(middle, (half, RADIUS), turned, 0, 360, 1)
    cv2.fillConvexPoly(canvas, np.asarray(outline), colour)


def skeleton_columns(people: People, height: int, width: int) -> dict[str, Any]:
    """What is stored beside the map.

    ``keypoints``: for each person 18 times x and y in pixels, -1 for a part that is not seen; ``scores``: 18 for each
    person, 0 for such a part; ``n_people``; ``visible_fraction``: of all parts, those seen.
    """
    return {
        "keypoints": [value for points in people for value in flat(points, width, height)],
        "scores": [float(point.score) if point else 0.0 for points in people for point in points],
        "n_people": len(people),
        "visible_fraction": sum(point is not None for points in people for point in points)
        / max(1, PARTS * len(people)),
    }


def flat(points: Sequence[Point | None], width: int, height: int) -> list[float]:
    """x and y in pixels, one after the other; -1 for a part that is not seen (None, or below zero)."""
    seen = [(point.x, point.y) if point and point.x >= 0 and point.y >= 0 else None for point in points]
    return [value for xy in seen for value in ((xy[0] * width, xy[1] * height) if xy else (-1.0, -1.0))]
