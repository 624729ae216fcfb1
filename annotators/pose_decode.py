"""From OpenPose's heat maps to people (Cao et al. 2017, section 2): peaks, limbs between them, skeletons from limbs.

Gives what controlnet-aux 0.0.10 ``open_pose/body.py`` gives, peak for peak, in a tenth of the time or less: maps are
enlarged one by one and only where they are read, blurred by OpenCV and only around what can be a peak, and all pairs of
two body parts are scored at once. Float64 and the order of sums are kept, since ties and thresholds hang on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

STRIDE = 8  # input pixels of one cell
PARTS = 18
PEAK = 0.1  # least blurred heat of a peak
SIGMA, RADIUS = 3, 12  # of the blur: scipy's gaussian_filter cuts at 4 sigma
SAMPLES = 10  # points on a limb
AFFINITY = 0.05  # least affinity at a point; more than 0.8 of the points must have it
LANCZOS_GAIN = 4  # more than the weights' absolute values sum to, over both axes: what overshoot can do
MOST_PEAKS = 1000  # of one part: a crowd has hundreds, and time and memory grow with the square

# Limbs as (part, part, channel of the affinity's x); the y is the next channel. The last two only join skeletons.
LIMBS = (
    *((1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0), (8, 9, 2), (9, 10, 4)),
    *((1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30), (14, 16, 34), (0, 15, 32), (15, 17, 36)),
    *((2, 16, 18), (5, 17, 26)),
)
LAST_STARTING_LIMB = 16


def find_people(
    heat: np.ndarray, affinity: np.ndarray, inner: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Peaks and the people that they make up.

    Args:
        heat: float32 (19, h, w), one map for each part (COCO-18 order) and one of the background.
        affinity: float32 (38, h, w), pairs of x and y.
        inner: (height, width) of the network's input before it was padded.
        size: (height, width) of the picture.

    Returns:
        candidates, float64 (N, 4): x, y in pixels, heat, index; and people, float64 (P, 20): the candidate of each part
        or -1, the score, the number of parts. The layout of ``Body.__call__`` in controlnet-aux.

    Raises:
        ValueError: so many peaks that the heat cannot be of a picture of people.
    """
    peaks = [peaks_of_part(heat[part], inner, size) for part in range(PARTS)]
    crowd = max(len(part) for part in peaks)
    if crowd > MOST_PEAKS:
        raise ValueError(f"{crowd} peaks of one body part: this is no heat map of people")
    candidates = np.concatenate(peaks)
    candidates = np.column_stack([candidates, np.arange(len(candidates), dtype=np.float64)])
    parts = np.split(candidates, np.cumsum([len(part) for part in peaks])[:-1])
    limbs: list[list[tuple[int, int, float]]] = []
    for a, b, channel in LIMBS:
        if not (len(parts[a]) and len(parts[b])):
            limbs.append([])
            continue
        field = [enlarge(at_input(affinity[channel + axis], inner), size) for axis in (0, 1)]
        limbs.append(match(parts[a], parts[b], *score_pairs(parts[a], parts[b], field, size[0])))
    return candidates, assemble(candidates, limbs)


def peaks_of_part(heat: np.ndarray, inner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Peaks of one float32 map (h, w) in pixels of the picture, as :func:`find_peaks`."""
    heat = at_input(heat, inner)
    if np.abs(heat).max() * LANCZOS_GAIN < PEAK:
        return np.zeros((0, 3))
    return find_peaks(enlarge(heat, size))


def at_input(values: np.ndarray, inner: tuple[int, int]) -> np.ndarray:
    """One float32 map at the size of the network's input, without the padding."""
    height, width = values.shape
    values = cv2.resize(values, (width * STRIDE, height * STRIDE), interpolation=cv2.INTER_LANCZOS4)
    return values[: inner[0], : inner[1]]


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One float32 map at the size of the picture."""
    shrunk = sum(size) < sum(values.shape)
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LANCZOS4)


def find_peaks(heat: np.ndarray) -> np.ndarray:
    """Local maxima of the blurred heat: float64 (N, 3), x, y and the unblurred heat, in row order."""
    rows, columns = (np.flatnonzero(np.any(heat > PEAK, axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((0, 3))
    # a blurred value is a weighted mean, so peaks are near hot pixels, and what they are made of is twice as near
    top, left = (max(0, index[0] - 2 * RADIUS) for index in (rows, columns))
    hot = heat[top : rows[-1] + 2 * RADIUS + 1, left : columns[-1] + 2 * RADIUS + 1].astype(np.float64)
    side = 2 * RADIUS + 1
    blurred = cv2.GaussianBlur(hot, (side, side), SIGMA, borderType=cv2.BORDER_REFLECT)
    highest = cv2.dilate(blurred, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    y, x = np.nonzero((blurred >= highest) & (blurred > PEAK))
    return np.column_stack([x + left, y + top, hot[y, x]])


def score_pairs(
    parts_a: np.ndarray, parts_b: np.ndarray, field: Sequence[np.ndarray], image_height: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each pair of peaks: its score, float64 (A, B), and whether it can be a limb, bool (A, B)."""
    start, step = parts_a[:, None, :2], parts_b[None, :, :2] - parts_a[:, None, :2]
    length = np.maximum(0.001, np.sqrt(step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1]))
    points = np.arange(SAMPLES)[:, None] * (step / (SAMPLES - 1))[..., None, :] + start[..., None, :]
    points[..., -1, :] = parts_b[None, :, :2]
    x, y = np.moveaxis(np.rint(points).astype(np.int64), -1, 0)
    direction = step / length[..., None]
    along = [field[axis][y, x].astype(np.float64) * direction[..., axis, None] for axis in (0, 1)]
    affinity = along[0] + along[1]
    # cumsum adds from left to right as Python's sum does; np.sum adds in another order
    score = np.cumsum(affinity, axis=-1)[..., -1] / SAMPLES + np.minimum(0.5 * image_height / length - 1, 0)
    return score, (np.count_nonzero(affinity > AFFINITY, axis=-1) > 0.8 * SAMPLES) & (score > 0)


def match(
    parts_a: np.ndarray, parts_b: np.ndarray, score: np.ndarray, allowed: np.ndarray
) -> list[tuple[int, int, float]]:
    """The best pairs first, each peak once: (candidate, candidate, score)."""
    pairs = np.argwhere(allowed)
    order = np.argsort(-score[allowed], kind="stable")
    limbs = []
    used_a, used_b = set(), set()
    for i, j in pairs[order].tolist():
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            limbs.append((int(parts_a[i, 3]), int(parts_b[j, 3]), float(score[i, j])))
    return limbs


def assemble(candidates: np.ndarray, limbs: Sequence[list[tuple[int, int, float]]]) -> np.ndarray:
    """Limbs that share a peak are one person: float64 (P, 20), people of few or doubtful parts left out."""
    people: list[np.ndarray] = []
    for number, (a, b, _) in enumerate(LIMBS):
        for peak_a, peak_b, score in limbs[number]:
            owners = [person for person in people if person[a] == peak_a or person[b] == peak_b][:2]
            if len(owners) == 2 and not np.any((owners[0][:PARTS] >= 0) & (owners[1][:PARTS] >= 0)):
                first, second = owners
                first[:PARTS] += second[:PARTS] + 1
                first[PARTS:] += second[PARTS:]
                first[PARTS] += score
                people = [person for person in people if person is not second]
            elif len(owners) == 2 or (owners and owners[0][b] != peak_b):
                owners[0][b] = peak_b
                owners[0][PARTS] += candidates[peak_b, 2] + score
                owners[0][PARTS + 1] += 1
            elif not owners and number <= LAST_STARTING_LIMB:
                person = np.full(PARTS + 2, -1.0)
                person[[a, b]] = peak_a, peak_b
                person[PARTS:] = candidates[peak_a, 2] + candidates[peak_b, 2] + score, 2
                people.append(person)
    kept = [person for person in people if person[PARTS + 1] >= 4 and person[PARTS] / person[PARTS + 1] >= 0.4]
    return np.array(kept).reshape(-1, PARTS + 2)
