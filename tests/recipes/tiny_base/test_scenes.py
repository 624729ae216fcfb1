"""Drawn scenes: the same for the same number, and true to their maps and captions."""

from __future__ import annotations

import numpy as np

from recipes.tiny_base.scenes import draw_scene


def test_scenes_are_functions_of_their_numbers_and_their_maps_are_true() -> None:
    for index in range(40):
        scene, again = draw_scene(3, index), draw_scene(3, index)
        np.testing.assert_array_equal(scene.image, again.image)
        assert (scene.depth > scene.depth.min()).sum() == (scene.labels > 0).sum()
        assert all(shape.colour in scene.caption and shape.kind in scene.caption for shape in scene.shapes)
        nearest = scene.labels[scene.depth == scene.depth.max()]
        assert len(set(nearest.tolist())) == 1
        assert len(np.unique(scene.depth)) == len(scene.shapes) + 1
