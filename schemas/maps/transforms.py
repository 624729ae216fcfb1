"""What happens to a picture and its maps together: cutting, mirroring, and maps as control images.

A picture and its maps are cut by one box. Mirroring follows each condition's rule: a mirrored normal has its x
negated, a mirrored pose has its left and right limbs exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..conditions import Condition
from ..errors import MillError
from .labels import label_palette

# The 18 colours of OpenPose's COCO skeleton (controlnet-aux open_pose/util.py, draw_bodypose): joint i is drawn in
# colour i, limb i in 0.6 of colour i; no pixel is blended.
POSE_COLOURS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0)),
    *((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255)),
    *((170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)
POSE_JOINT_PAIRS = ((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), (14, 15), (16, 17))  # right, left
POSE_LIMB_PAIRS = ((0, 1), (2, 4), (3, 5), (6, 9), (7, 10), (8, 11), (13, 15), (14, 16))

Image = TypeVar("Image", np.ndarray, "np.ndarray | None")


@dataclass(frozen=True)
class Augment:
    """What is drawn for each sample. ``crop`` is the side of a random square window, 0 for the whole picture.

    Mirroring is off by default: text, clocks and captions that say left do not survive it.
    """

    crop: int = 0
    mirror: bool = False

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int, bool]:
        """(top, left, height, width, mirrored) of one sample; the same draws whatever is switched on."""
        u, v, w = rng.random(3)
        side = self.crop or 0
        if not side:
            return 0, 0, height, width, bool(self.mirror and w < 0.5)
        top, left = int(u * (height - side + 1)), int(v * (width - side + 1))
        return top, left, side, side, bool(self.mirror and w < 0.5)


def augment(
    image: Image, maps: Mapping[str, np.ndarray], conditions: Mapping[str, Condition], window: tuple[int, ...]
) -> tuple[Image, dict[str, np.ndarray]]:
    """The picture, uint8 (H, W, 3) or None, and its maps, cut by one window and mirrored together."""
    top, left, height, width, mirrored = window
    box = np.s_[top : top + height, left : left + width]
    cut = {name: array[box] for name, array in maps.items()}
    if mirrored:
        cut = {name: mirror_map(conditions[name], array) for name, array in cut.items()}
    if image is not None:
        image = np.ascontiguousarray(image[box][:, ::-1] if mirrored else image[box])
    return image, {name: np.ascontiguousarray(array) for name, array in cut.items()}


def mirror_map(condition: Condition, array: np.ndarray) -> np.ndarray:
    """The map of the mirrored picture. Twice is the identity.

    Raises:
        MillError: the condition cannot be mirrored.
    """
    check_mirror(condition)
    flipped = array[:, ::-1]
    if condition.mirror == "negate-x":
        turned = flipped.copy()
        turned[..., condition.x_channel] = 255 - turned[..., condition.x_channel]  # 127.5 is none
        return turned
    return _swap_colours(flipped) if condition.mirror == "swap-limbs" else flipped


def check_mirror(condition: Condition) -> None:
    """Raise MillError where maps of a condition cannot be mirrored."""
    if condition.mirror == "none":
        raise MillError(f"--random-flip: {condition.table} cannot be mirrored")
    if condition.mirror == "negate-x" and condition.x_channel is None:
        raise MillError(
            f"--random-flip: which channel of the imported {condition.table} holds x is not known; train without it"
        )
    if condition.mirror == "swap-limbs" and condition.is_imported:
        raise MillError(
            f"--random-flip: left and right of {condition.table} are known by exact colours, which imported drawings "
            "lose where they are scaled; train without it"
        )


def _swap_colours(array: np.ndarray) -> np.ndarray:
    packed = array.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    swapped = array.copy()
    for source, target in _pose_exchanges():
        swapped[packed == (source[0] << 16 | source[1] << 8 | source[2])] = target
    return swapped


def _pose_exchanges() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    limbs = [tuple(int(value * 0.6) for value in colour) for colour in POSE_COLOURS]
    joints: list[tuple[int, ...]] = list(POSE_COLOURS)
    pairs = [(joints[a], joints[b]) for a, b in POSE_JOINT_PAIRS]
    pairs += [(limbs[a], limbs[b]) for a, b in POSE_LIMB_PAIRS]
    return [*pairs, *((b, a) for a, b in pairs)]


def control_image(condition: Condition, array: np.ndarray) -> np.ndarray:
    """A map as the ControlNet sees it: float32 (3, H, W) in 0 to 1, RGB.

    One channel becomes three; 16 bits keep their precision; labels are painted with the palette they are stored with,
    void is black.
    """
    scaled = painted(condition, array).astype(np.float32) / scale_of(condition)
    if scaled.ndim == 2:
        return np.broadcast_to(scaled, (3, *scaled.shape)).copy()
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def painted(condition: Condition, array: np.ndarray) -> np.ndarray:
    """A map whose numbers are brightness, uint8 or uint16: labels are painted, (H, W, 3); others are themselves."""
    if condition.kind != "labels":
        return array
    palette = condition.palette or label_palette()
    colours: np.ndarray = np.frombuffer(palette, np.uint8).reshape(256, 3)[array]
    return colours


def scale_of(condition: Condition) -> int:
    """The number that is white in a painted map."""
    return 65535 if condition.kind == "gray16" else 255


def control_picture(condition: Condition, array: np.ndarray) -> np.ndarray:
    """A map to look at: uint8 (H, W, 3), RGB; depth loses its low byte."""
    return np.rint(control_image(condition, array).transpose(1, 2, 0) * 255).astype(np.uint8)
