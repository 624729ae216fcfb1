"""OKS and its average precision: by hand on known cases; those of pycocotools where that is installed."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from controlmill.evaluation.measures.keypoints import people_of
from controlmill.evaluation.measures.oks import BOX_SHARE, NECK, SIGMAS, average_precision, matches, similarity

COCO = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)  # COCO's 17 points in COCO-18


def crowd(seed: int, people: int, share_seen: float = 0.9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (people, 18, 2)) * (60, 120) + rng.uniform(200, 600, (people, 1, 2))
    points[rng.random((people, 18)) > share_seen] = np.nan
    return points


def flat(people: np.ndarray) -> list[float]:
    values: list[float] = np.nan_to_num(people, nan=-1).ravel().tolist()
    return values


def test_similarity_by_hand() -> None:
    true = crowd(0, 1, 1.0)
    found = true.copy()
    found[0, 4] += (6, 8)  # a wrist, 10 pixels off
    found[0, 9] = np.nan  # a knee that is not found
    found[0, NECK] += 50  # no point of COCO
    true[0, NECK] = np.nan
    width, height = np.nanmax(true[0], axis=0) - np.nanmin(true[0], axis=0)
    wrist = np.exp(-100 / (2 * BOX_SHARE * width * height * (2 * 0.062) ** 2))
    assert similarity(found, true)[0, 0] == pytest.approx((15 + wrist + 0) / 17)


def test_people_who_are_found_missed_and_made_up() -> None:
    two = crowd(1, 2, 1.0)
    elsewhere = two + 500

    def ap(found: np.ndarray, scores: list[float]) -> float:
        return average_precision([matches(flat(found), [s for s in scores for _ in range(18)], flat(two))])

    assert ap(two, [0.5, 0.5]) == 1.0
    assert ap(two[::-1], [0.5, 0.5]) == 1.0
    assert ap(two[:1], [0.5]) == pytest.approx(51 / 101), "recalls from 0 to .5 are reached"
    assert ap(np.concatenate([two, elsewhere]), [0.9, 0.9, 0.1, 0.1]) == 1.0, "who is made up comes last"
    assert ap(np.concatenate([elsewhere, two]), [0.9, 0.9, 0.1, 0.1]) == pytest.approx(0.5)
    assert ap(elsewhere, [0.5, 0.5]) == 0.0
    assert ap(two[:0], []) == 0.0


def test_pictures_without_people() -> None:
    assert np.isnan(average_precision([matches([], [], [])]))
    one = flat(crowd(2, 1, 1.0))
    assert matches([], [], []) == [0.0]
    assert average_precision([matches(one, [0.5] * 18, one), matches(one, [0.9] * 18, [])]) == pytest.approx(0.5)
    assert average_precision([matches(one, None, one)]) == 1.0, "without scores all are equally sure"


def test_average_precision_is_that_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(5)
    parts, truths, results = [], [], []
    pictures = 12
    for picture in range(pictures):
        true = crowd(picture, picture % 4)
        found = np.concatenate([true + rng.normal(0, rng.uniform(0, 12), true.shape), crowd(100 + picture, 1)])
        scores = rng.uniform(0.1, 1, len(found))
        parts.append(matches(flat(found), np.repeat(scores, 18).tolist(), flat(true)))
        for person in people_of(flat(true)):
            sides = np.nanmax(np.delete(person, NECK, 0), axis=0) - np.nanmin(np.delete(person, NECK, 0), axis=0)
            seen = ~np.isnan(person[list(COCO), 0])
            points = np.column_stack([np.nan_to_num(person[list(COCO)]), 2 * seen])
            truths.append({"keypoints": points.ravel().tolist(), "num_keypoints": int(seen.sum())})
            truths[-1] |= {"id": len(truths), "image_id": picture, "category_id": 1, "iscrowd": 0, "ignore": 0}
            truths[-1] |= {"area": float(BOX_SHARE * sides.prod()), "bbox": [0.0, 0.0, *sides.tolist()]}
        for person, score in zip(found, scores, strict=True):
            points = np.column_stack([np.nan_to_num(person[list(COCO)], nan=-1e4), np.ones(17)])
            results.append({"keypoints": points.ravel().tolist(), "score": float(score)})
            results[-1] |= {"image_id": picture, "category_id": 1}
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO()
        images = [{"id": picture} for picture in range(pictures)]
        dataset.dataset = {"info": {}, "images": images, "annotations": truths, "categories": [{"id": 1}]}
        dataset.createIndex()
        evaluated = cocoeval.COCOeval(dataset, dataset.loadRes(results), "keypoints")
        evaluated.params.kpt_oks_sigmas = SIGMAS[list(COCO)]
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    assert 0.1 < evaluated.stats[0] < 0.9
    assert average_precision(parts) == pytest.approx(evaluated.stats[0], abs=1e-9)
