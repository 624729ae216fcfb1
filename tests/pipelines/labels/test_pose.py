"""COCO's key points as OpenPose's skeletons: order, neck, visibility, geometry; who is drawn and who is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlmill.pipelines.labels.pose import COCO_POINTS, OPENPOSE_POINTS, openpose_points
from controlmill.schemas.errors import MillError
from controlmill.schemas.images.codecs import decode_map
from controlmill.schemas.maps.transforms import POSE_COLOURS
from tests.pipelines.labels.labelled import label_of, reason_of, source_at

SIZE = (64, 48)


def person(**points: tuple[float, float, int]) -> list[float]:
    """51 numbers, with the points that are named."""
    return [value for name in COCO_POINTS for value in points.get(name, (0, 0, 0))]


def write(folder: Path, *annotations: dict[str, Any], **changes: Any) -> Path:
    """A file with the annotations of picture 7."""
    written = {
        "annotations": [{"id": i, "image_id": 7, "iscrowd": 0, **entry} for i, entry in enumerate(annotations)],
        "images": [{"id": 7, "file_name": "000000000007.jpg", "width": SIZE[0], "height": SIZE[1]}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_POINTS)}],
        **changes,
    }
    path = folder / "person_keypoints_val2017.json"
    path.write_text(json.dumps(written), "utf-8")
    return path


def test_points_go_to_their_places_and_the_neck_is_between_the_shoulders() -> None:
    values = [float(value) for i in range(17) for value in (10 * i, i, 2)]
    found = openpose_points(values)
    for name, point in zip(OPENPOSE_POINTS, found, strict=True):
        if name != "neck":
            index = COCO_POINTS.index(name)
            assert point == (10 * index, index, 1.0)
    assert found[1] == (55, 5.5, 1.0)


@pytest.mark.parametrize(("left", "right", "score"), [(2, 2, 1.0), (1, 2, 0.5), (0, 2, None), (1, 0, None)])
def test_the_neck_is_as_sure_as_its_shoulders(left: int, right: int, score: float | None) -> None:
    found = openpose_points(person(left_shoulder=(4, 4, left), right_shoulder=(8, 8, right)))
    assert (found[1] and found[1][2]) == score


def test_points_are_stored_and_drawn_in_the_window_of_their_picture(tmp_path: Path) -> None:
    points = person(nose=(31, 23, 2), left_wrist=(2, 2, 2), right_eye=(63, 47, 1))
    source = source_at("pose", write(tmp_path, {"keypoints": points}))
    row = label_of(source, "val2017/000000000007.jpg", SIZE, (8, 0, 48, 48), (96, 96))
    stored = np.array(row["keypoints"]).reshape(18, 2)
    np.testing.assert_allclose(stored[0], ((31.5 - 8) * 2 - 0.5, 23.5 * 2 - 0.5))
    assert (stored[1:] == -1).all(), "the others were cut off"
    assert (row["n_people"], row["n_unlabelled"]) == (1, 0)
    assert row["scores"][0] == 1
    assert row["visible_fraction"] == pytest.approx(1 / 18)
    drawing = decode_map("rgb", row["map"]["bytes"])
    where = np.argwhere(drawing.any(axis=2))
    np.testing.assert_allclose(where.mean(axis=0), (46, 46), atol=0.5)
    assert drawing[46, 46].tolist() == list(POSE_COLOURS[0])


def test_points_of_a_picture_that_was_made_smaller_before_are_scaled(tmp_path: Path) -> None:
    source = source_at("pose", write(tmp_path, {"keypoints": person(nose=(31.5, 23.5, 2))}))
    row = label_of(source, "000000000007.jpg", (32, 24))
    assert row["keypoints"][:2] == pytest.approx([15.5, 11.5])
    assert reason_of(source, "000000000007.jpg", (48, 64)) == "size_mismatch"


def test_nobody_is_an_empty_skeleton_and_nobody_with_points_is_a_null(tmp_path: Path) -> None:
    source = source_at("pose", write(tmp_path))
    row = label_of(source, "000000000007.jpg", SIZE)
    assert (row["n_people"], row["coverage"]) == (0, 0)
    crowd = {"keypoints": person(nose=(3, 3, 2)), "iscrowd": 1}
    far = {"keypoints": person()}
    assert reason_of(source_at("pose", write(tmp_path, crowd, far)), "000000000007.jpg", SIZE) == "unlabelled"
    near = {"keypoints": person(nose=(30, 20, 2))}
    row = label_of(source_at("pose", write(tmp_path, crowd, near, far)), "000000000007.jpg", SIZE)
    assert (row["n_people"], row["n_unlabelled"]) == (1, 2)
    assert reason_of(source, "000000000008.jpg", SIZE) == "missing"


def test_what_is_no_key_points_of_people_is_an_error(tmp_path: Path) -> None:
    for annotation, words in (
        ({"keypoints": [1, 2, 2]}, "no list of 51 numbers"),
        ({"keypoints": [1e300] * 51}, "not all are numbers"),
        ({"keypoints": [10**400] * 51}, "not all are numbers"),
        ({"bbox": [1, 2, 3, 4]}, "no list of 51 numbers"),
        ({"keypoints": person(), "image_id": [1]}, "image_id is no id"),
    ):
        with pytest.raises(MillError, match=words):
            source_at("pose", write(tmp_path, annotation)).open()
    with pytest.raises(MillError, match="not COCO's 17"):
        source_at("pose", write(tmp_path, categories=[{"id": 1, "keypoints": ["paw"]}]))
    with pytest.raises(MillError, match="width and height"):
        source_at("pose", write(tmp_path, images=[{"id": 7, "file_name": "7.jpg", "width": 0, "height": 4}])).open()
    with pytest.raises(MillError, match="names no pictures"):
        source_at("pose", write(tmp_path, images=[])).open()


def test_too_many_people_are_refused(tmp_path: Path) -> None:
    many = [{"keypoints": person(nose=(3, 3, 2))}] * 1001
    assert reason_of(source_at("pose", write(tmp_path, *many)), "000000000007.jpg", SIZE) == "too_many_people"
