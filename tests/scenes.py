"""A dataset of drawn scenes with all nine conditions, built by the real jobs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from controlmill.schemas.maps.transforms import POSE_COLOURS
from recipes.tiny_base.scenes import draw_scene, write_corpus
from tests.helpers import command

SCENES = 96
WITHOUT_SCRIBBLE = (3, 50)  # scenes whose scribble is missing: nulls with a reason
ALL_MAPS = ("canny", "hough", "cartoon", "hed", "scribble", "pose", "segmentation", "depth", "normals")


def build_scenes(root: Path) -> Path:
    """The dataset's folder; the corpus lies beside it."""
    photos, maps = write_corpus(root / "corpus", SCENES, seed=5)
    for name in ("hed", "scribble", "pose", "normals"):
        (maps / name).mkdir()
    for index in range(SCENES):
        scene = draw_scene(5, index)
        edges = cv2.Canny(scene.image, 100, 200)
        stem = f"{index:06d}.png"
        cv2.imwrite(str(maps / "hed" / stem), cv2.GaussianBlur(edges, (0, 0), 1.0))
        if index not in WITHOUT_SCRIBBLE:
            cv2.imwrite(str(maps / "scribble" / stem), cv2.dilate(edges, np.ones((3, 3))))
        cv2.imwrite(str(maps / "pose" / stem), skeleton(index)[..., ::-1])
        cv2.imwrite(str(maps / "normals" / stem), normals(scene.depth)[..., ::-1])
    folder = root / "dataset"
    words = ["build", photos, folder, "--resolution", "64", "--shard-size", "40", "--conditions-from", maps]
    words += ["--conditions", "canny,hough=lsd,cartoon=standard"]
    built = command(*map(str, words))
    assert built.returncode == 0, built.stderr
    return folder


def skeleton(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    canvas = np.zeros((64, 64, 3), np.uint8)
    for colour in POSE_COLOURS:
        cv2.circle(canvas, tuple(int(v) for v in rng.integers(5, 59, 2)), 2, colour, -1)
    return canvas


def normals(depth: np.ndarray) -> np.ndarray:
    height = cv2.GaussianBlur(depth.astype(np.float32) / 65535, (0, 0), 2)
    vectors = np.dstack([cv2.Sobel(height, -1, 1, 0), cv2.Sobel(height, -1, 0, 1), np.full((64, 64), 0.5, np.float32)])
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return (vectors * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
