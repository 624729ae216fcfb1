"""Average precision of people by object keypoint similarity (OKS), as COCO's keypoint challenge takes it.

A found person and a true one are as similar as exp(−d² / 2 s² (2σ)²) says, in the mean over the true person's
keypoints: d is how far a keypoint is off, s² the person's area, σ how exactly people mark that keypoint. Found people
are given to true ones greedily, the surest first, once for each of ten thresholds from .50 to .95; AP is the mean
precision over 101 recalls and the thresholds. https://cocodataset.org/#keypoints-eval, pycocotools ``COCOeval``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .keypoints import PARTS, people_of
from .measure import Part

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST_PEOPLE = 20  # found ones of a picture that count
BOX_SHARE = 0.53  # of a box that a person covers; mmpose's, for data without outlines
NECK = 1  # the mean of the shoulders: COCO has no such point
SIGMAS = np.array(  # of COCO's 17 points, in the order of COCO-18 with its neck
    (0.026, np.nan, *(0.079, 0.072, 0.062) * 2, *(0.107, 0.087, 0.089) * 2, 0.025, 0.025, 0.035, 0.035)
)


def matches(found: Sequence[float] | None, scores: Sequence[float] | None, true: Sequence[float] | None) -> Part:
    """Of one picture: how many true people, and of each found one its score and at which thresholds it is right.

    Args:
        found, true: the stored column ``keypoints``.
        scores: the stored column ``scores``; a person's is the mean over the parts that were seen.

    Returns:
        The number of true people, then for each found one, the surest first, a score and a number whose bit t says
        that it was matched at threshold t.
    """
    ours, theirs = (people_of(flat) for flat in (found, true))
    ours[:, NECK], theirs[:, NECK] = np.nan, np.nan
    theirs = theirs[~np.isnan(theirs[..., 0]).all(axis=1)]
    sure = _people_scores(ours, scores)
    order = np.argsort(-sure, kind="stable")[:MOST_PEOPLE]
    similar, found_at = similarity(ours[order], theirs), np.zeros(len(order), int)
    for bit, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(theirs), bool)
        for i, row in enumerate(similar):
            left = np.where(free & (row >= threshold), row, -1)
            if len(left) and left.max() >= 0:
                free[len(left) - 1 - int(np.argmax(left[::-1]))] = False  # of equals the last, as COCOeval
                found_at[i] |= 1 << bit
    people = np.stack([sure[order], found_at], axis=1).ravel().tolist()
    return [float(len(theirs)), *map(float, people)]


def similarity(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """OKS, float64 (found, true), of people as float64 (N, 18, 2) with NaN for a part that is not seen.

    A person's area is 0.53 of the box around the true keypoints, at least one pixel.
    """
    if not len(found) or not len(true):
        return np.zeros((len(found), len(true)))
    asked = ~np.isnan(true[..., 0])
    sides = np.nanmax(true, axis=1) - np.nanmin(true, axis=1)
    area = np.maximum(BOX_SHARE * sides.prod(axis=1), 1.0)
    square = np.square(found[:, None] - true[None]).sum(axis=3)  # NaN where either is not seen
    near = np.exp(-square / (2 * area[None, :, None] * np.square(2 * SIGMAS)))
    means: np.ndarray = np.nan_to_num(near).sum(axis=2) / asked.sum(axis=1)
    return means


def average_precision(parts: Sequence[Part]) -> float:
    """AP, 0 to 1, of the :func:`matches` of several pictures; NaN where no picture has a true person."""
    numbers = np.concatenate([np.empty(0), *parts])
    starts = np.cumsum([0, *map(len, parts)])[:-1]
    wanted = numbers[starts].sum()
    if not wanted:
        return float("nan")
    people = np.delete(numbers, starts).reshape(-1, 2)
    people = people[np.argsort(-people[:, 0], kind="stable")]
    right = people[:, 1].astype(int)[None] >> np.arange(len(THRESHOLDS))[:, None] & 1  # (thresholds, found)
    recall = np.cumsum(right, axis=1) / wanted
    precision = np.cumsum(right, axis=1) / np.arange(1, len(people) + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    at = [np.searchsorted(row, RECALLS) for row in recall]
    return float(np.mean([np.append(row, 0.0)[index] for row, index in zip(precision, at, strict=True)]))


def _people_scores(people: np.ndarray, scores: Sequence[float] | None) -> np.ndarray:
    """Float64 (people,): the mean score of each one's seen parts; 1 for all where no scores are stored."""
    if scores is None or len(scores) != len(people) * PARTS:
        return np.ones(len(people))
    seen = ~np.isnan(people[..., 0])
    values = np.asarray(scores, float).reshape(-1, PARTS)
    means: np.ndarray = (values * seen).sum(axis=1) / np.maximum(1, seen.sum(axis=1))
    return means
