"""Surface normals in a stated frame as this project stores them: NormalBae's, which ControlNet 1.1 was trained on.

Stored RGB is x to the left, y up, z towards the camera, 127.5 + 127.5 n; black where nothing is known.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import Refused
from .frames import Frame

SIGNS: dict[Frame, tuple[int, int, int]] = {  # of x, y and z, to what is stored
    "opengl": (-1, 1, 1),  # x right, y up, z towards the camera
    "opencv": (-1, -1, -1),  # x right, y down, z away from it: a wall that is faced has z = -1
    "dsine": (1, 1, 1),  # x right, y down, z away, but of the normal that points into the surface
}
X_CHANNEL = 0
SHORTEST = 0.1  # of a vector that says something
Box = tuple[float, float, float, float]


def stored_normals(vectors: np.ndarray, frame: Frame, size: tuple[int, int], box: Box) -> np.ndarray:
    """A window of normals at ``size`` (width, height), as they are stored: uint8 (H, W, 3).

    Args:
        vectors: float32 (H, W, 3), x, y, z in ``frame``; of any length. Near zero, or not finite, is unknown.
        frame: whose axes they are in.
        size: of the stored map.
        box: left, top, right, bottom in the vectors' pixels.

    Raises:
        Refused: wrong_kind, where a third of them has no length near 1: these are no normals.
    """
    length = np.sqrt(np.sum(np.square(vectors, dtype=np.float32), axis=2))
    known = np.isfinite(length) & (length > SHORTEST)
    if np.count_nonzero(np.abs(length[known] - 1) > 0.2) * 3 > np.count_nonzero(known):
        raise Refused("wrong_kind", "these vectors are not of length 1: no normals, or of another range")
    turned = np.where(known[..., None], vectors, 0).astype(np.float32) * np.array(SIGNS[frame], np.float32)
    whole = (size[1], size[0]) == known.shape and box == (0, 0, *size)
    if not whole:
        enlarged = max((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]) < 1
        method = Image.Resampling.BILINEAR if enlarged else Image.Resampling.BOX
        bands = [Image.fromarray(np.ascontiguousarray(turned[..., band])) for band in range(3)]
        turned = np.stack([np.asarray(band.resize(size, method, box=box)) for band in bands], axis=2)
    length = np.sqrt(np.sum(np.square(turned), axis=2))
    known = length > SHORTEST
    unit = np.divide(turned, length[..., None], out=np.zeros_like(turned), where=known[..., None])
    return np.where(known[..., None], np.rint(unit * 127.5 + 127.5), 0).astype(np.uint8)
