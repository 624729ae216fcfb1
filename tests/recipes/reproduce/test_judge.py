"""The judge: trained once, the same for the same seed, maps of the pictures' size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from recipes.reproduce.judge import CLASSES, as_tensor, the_judge, train_judge
from recipes.tiny_base.scenes import draw_scene


def test_it_is_trained_once_and_says_labels_and_depth(tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    judge = the_judge(path, steps=2, scenes=8)
    written = path.stat().st_mtime_ns
    again = the_judge(path, steps=2, scenes=8)
    assert path.stat().st_mtime_ns == written
    pictures = [draw_scene(3, index).image for index in range(3)]
    with torch.no_grad():
        assert all(
            torch.equal(*pair) for pair in zip(judge(as_tensor(pictures)), again(as_tensor(pictures)), strict=True)
        )
    for found in judge.judge(pictures):
        assert (found.labels.shape, found.labels.dtype) == ((64, 64), np.uint8)
        assert found.labels.max() < CLASSES
        assert (found.depth.shape, found.depth.dtype) == ((64, 64), np.uint16)


def test_the_same_seed_gives_the_same_judge() -> None:
    one, same, other = (train_judge(1, 4, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["out.0.weight"], other["out.0.weight"])
