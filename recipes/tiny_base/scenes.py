"""A corpus that a computer draws: coloured shapes on coloured grounds; captions, depth order and labels are exact.

Scene ``index`` of corpus ``seed`` is a pure function of the two numbers. Written as a folder it is what
``controlmill ingest PHOTOS DATASET --resolution 64 --conditions-from MAPS`` takes: pictures with captions beside them,
and one folder of maps for ``depth`` and one for ``segmentation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIDE = 64
SUPERSAMPLED = 4  # shapes are drawn this much larger and averaged, which smooths their edges
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (247, 140, 20),
    "yellow": (250, 220, 50),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
    "purple": (140, 50, 180),
    "white": (240, 240, 240),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross")  # label = position + 1; the ground is 0
USUAL_COLOURS = {"circle": "red", "square": "blue", "triangle": "yellow", "diamond": "green", "cross": "purple"}
MAX_SHAPES = 2
RADII = (10.0, 20.0)  # pixels
HARDLY_SEEN = 0.5  # a shape of which less is visible is drawn again elsewhere: captions name what can be seen
GROUND_DEPTH = 6_000  # inverse depth, as MiDaS gives it: near is bright
NEAREST_DEPTH = 60_000


@dataclass(frozen=True)
class Shape:
    """One drawn shape; ``x``, ``y`` and ``radius`` in pixels, ``angle`` in radians."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """A picture and everything that is true of it.

    ``image`` is uint8 (64, 64, 3) RGB, ``depth`` uint16 (64, 64) inverse depth, ``labels`` uint8 (64, 64), 0 for the
    ground and 1 to 5 for :data:`SHAPES`. ``shapes`` are sorted from far to near; ``ground`` is a colour.
    """

    image: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    caption: str
    shapes: tuple[Shape, ...]
    ground: str


def draw_scene(seed: int, index: int, tilt: float = 0.0, usual: float = 0.0) -> Scene:
    """Scene ``index`` of corpus ``seed``.

    Args:
        seed, index: which scene.
        tilt: shapes are turned by up to so many radians, else they are the same.
        usual: the share of scenes whose shapes are of different kinds and have their :data:`USUAL_COLOURS`. Such a
            corpus has something to learn beside edges: the shape predicts the colour.
    """
    rng = np.random.default_rng((seed, index))
    is_usual = bool(np.random.default_rng((seed, index, 1)).random() < usual)
    ground = str(rng.choice(list(COLOURS)))
    shapes: list[Shape] = []
    count = int(rng.integers(1, MAX_SHAPES + 1))
    labels = np.zeros((SIDE, SIDE), np.uint8)
    while len(shapes) < count:
        candidate = [*shapes, _draw_shape(rng, ground, [shape.colour for shape in shapes], tilt)]
        owners, coverage = _paint(candidate)
        seen = [float((owners == i + 1).sum()) / max(1.0, float(alpha.sum())) for i, alpha in enumerate(coverage)]
        differ = len({shape.kind for shape in candidate}) == len(candidate)
        if min(seen) >= HARDLY_SEEN and (differ or not is_usual):
            shapes = candidate
    if is_usual:
        shapes = [replace(shape, colour=USUAL_COLOURS[shape.kind]) for shape in shapes]
        free = [colour for colour in COLOURS if colour not in {shape.colour for shape in shapes}]
        ground = ground if ground in free else str(rng.choice(free))
    owners, coverage = _paint(shapes)
    image = np.empty((SIDE, SIDE, 3), np.float32)
    image[:] = _shade(rng, ground)
    depth = np.full((SIDE, SIDE), GROUND_DEPTH, np.uint16)
    for i, (shape, alpha) in enumerate(zip(shapes, coverage, strict=True)):
        image += alpha[..., None] * (_shade(rng, shape.colour) - image)
        labels[owners == i + 1] = SHAPES.index(shape.kind) + 1
        depth[owners == i + 1] = GROUND_DEPTH + (NEAREST_DEPTH - GROUND_DEPTH) * (i + 1) // len(shapes)
    pixels = np.rint(image).clip(0, 255).astype(np.uint8)
    return Scene(pixels, depth, labels, caption_of(shapes, ground), tuple(shapes), ground)


def caption_of(shapes: Sequence[Shape], ground: str) -> str:
    """``a red circle in front of a white square on a blue ground``: shapes from near to far."""
    names = [f"{_article(shape.colour)} {shape.colour} {shape.kind}" for shape in reversed(shapes)]
    return f"{' in front of '.join(names)} on {_article(ground)} {ground} ground"


def caption_words() -> list[str]:
    """Every word of every caption."""
    return [*COLOURS, *SHAPES, "a", "an", "in", "front", "of", "on", "ground"]


def _article(colour: str) -> str:
    return "an" if colour == "orange" else "a"


def write_corpus(folder: Path, count: int, seed: int, usual: float = 0.0) -> tuple[Path, Path]:
    """Write the first ``count`` scenes as PNG with captions in ``photos``, and their maps in ``maps``.

    Returns:
        (photos, maps), the arguments of ``controlmill ingest`` and its ``--conditions-from``.
    """
    photos, maps = folder / "photos", folder / "maps"
    for target in (photos, maps / "depth", maps / "segmentation"):
        target.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        scene = draw_scene(seed, index, usual=usual)
        name = f"{index:06d}"
        Image.fromarray(scene.image).save(photos / f"{name}.png", compress_level=1)
        (photos / f"{name}.txt").write_text(scene.caption + "\n", encoding="utf-8")
        Image.fromarray(scene.depth).save(maps / "depth" / f"{name}.png", compress_level=1)
        Image.fromarray(scene.labels).save(maps / "segmentation" / f"{name}.png", compress_level=1)
    return photos, maps


def _draw_shape(rng: np.random.Generator, ground: str, taken: list[str], tilt: float) -> Shape:
    free = [colour for colour in COLOURS if colour != ground and colour not in taken]
    radius = float(rng.uniform(*RADII))
    x, y = (float(value) for value in rng.uniform(radius, SIDE - radius, 2))
    angle = float(rng.uniform(-tilt, tilt))
    return Shape(str(rng.choice(SHAPES)), str(rng.choice(free)), x, y, radius, angle)


def _shade(rng: np.random.Generator, colour: str) -> np.ndarray:
    """The colour, a little lighter or darker, float32 (3,)."""
    return (np.asarray(COLOURS[colour]) + rng.uniform(-10, 10, 3)).astype(np.float32).clip(0, 255)


def _paint(shapes: list[Shape]) -> tuple[np.ndarray, list[np.ndarray]]:
    """(whose pixel it is, int (64, 64), 0 for the ground; coverage of each shape, float32 (64, 64) in 0 to 1)."""
    owners = np.zeros((SIDE, SIDE), np.int64)
    coverage = []
    for i, shape in enumerate(shapes):
        alpha = _coverage(shape)
        owners[alpha > 0.5] = i + 1
        coverage.append(alpha)
    return owners, coverage


def _coverage(shape: Shape) -> np.ndarray:
    side = SIDE * SUPERSAMPLED
    canvas = np.zeros((side, side), np.uint8)
    centre = np.array([shape.x, shape.y]) * SUPERSAMPLED
    radius = shape.radius * SUPERSAMPLED
    if shape.kind == "circle":
        cv2.circle(canvas, tuple(np.rint(centre).astype(int).tolist()), round(radius), 255, -1)
    else:
        cos, sin = np.cos(shape.angle), np.sin(shape.angle)
        corners = OUTLINES[shape.kind] * radius @ np.array([[cos, sin], [-sin, cos]]) + centre
        cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], 255)
    return cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


# Corners in units of the radius, y down, inside the unit circle.
_ARM, _REACH = 0.3, 0.95
OUTLINES = {
    "square": np.array([(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)]),
    "triangle": np.array([(0.0, -1.0), (0.87, 0.5), (-0.87, 0.5)]),
    "diamond": np.array([(0.0, -1.0), (0.65, 0.0), (0.0, 1.0), (-0.65, 0.0)]),
    "cross": np.array(
        [
            *((-_ARM, -_REACH), (_ARM, -_REACH), (_ARM, -_ARM), (_REACH, -_ARM), (_REACH, _ARM), (_ARM, _ARM)),
            *((_ARM, _REACH), (-_ARM, _REACH), (-_ARM, _ARM), (-_REACH, _ARM), (-_REACH, -_ARM), (-_ARM, -_ARM)),
        ]
    ),
}
