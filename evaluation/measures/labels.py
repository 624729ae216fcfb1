"""Label maps: intersection over union, of one picture and pooled over a set. True void is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controlmill.schemas.maps.labels import VOID

from .measure import Part

AREAS = 4  # numbers of a class in a part: its id, and pixels of the intersection, of the found and of the true map


def miou(found: np.ndarray, true: np.ndarray) -> float:
    """Mean intersection over union of the classes that occur in the true map, 0 to 1; NaN of a map that is all void."""
    _, both, ours, theirs = _areas(found, true)
    asked = theirs > 0
    return float((both / (ours + theirs - both))[asked].mean()) if asked.any() else float("nan")


def areas(found: np.ndarray, true: np.ndarray) -> Part:
    """Of each class that occurs in either map: its id, pixels in both, in the found one, in the true one."""
    flat: list[float] = np.stack(_areas(found, true), axis=1).astype(float).ravel().tolist()
    return flat


def miou_of_areas(parts: Sequence[Part]) -> float:
    """Mean IoU of :func:`areas` that are added up first: one confusion matrix over all pictures, as mmsegmentation.

    A class that was found though no picture has it counts with 0. NaN where there is no class at all.
    """
    rows = np.concatenate([np.empty(0), *parts]).reshape(-1, AREAS)
    ids = rows[:, 0].astype(int)
    both, ours, theirs = (np.bincount(ids, rows[:, column], VOID + 1) for column in range(1, AREAS))
    union = ours + theirs - both
    there = union > 0
    return float((both[there] / union[there]).mean()) if there.any() else float("nan")


def _areas(found: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids of classes in either map, and their pixels in both, in the found and in the true one."""
    known = true != VOID
    found, true = found[known], true[known]
    both, ours, theirs = (np.bincount(labels, minlength=VOID + 1) for labels in (true[found == true], found, true))
    ids = np.flatnonzero(ours + theirs)
    return ids, both[ids], ours[ids], theirs[ids]
