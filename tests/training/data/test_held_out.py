"""The held-out rows that a run is evaluated on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlmill.training import start
from controlmill.training.data import reader
from controlmill.training.data.held_out import held_out_samples, stored_samples
from tests.training_runs import MakeConfig


def test_with_crop_samples_are_the_middle_of_every_picture_that_is_large_enough(
    short_config: MakeConfig, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tall(decode: Callable[..., Any]) -> Callable[..., Any]:  # the dataset's pictures are all 64x64
        return lambda *given: np.concatenate([square := decode(*given[:-1], (64, 64))] * (given[-1][0] // len(square)))

    monkeypatch.setattr(reader, "decode_image", tall(reader.decode_image))
    monkeypatch.setattr(reader, "decode_map", tall(reader.decode_map))
    prepared = start.prepare(str(scenes_folder), short_config(held_out=0.2, crop_size=32))
    rows = prepared.selection.held_out
    rows["height"][0], rows["width"][1] = 128, 24  # one of another shape, one too narrow
    samples = held_out_samples(prepared.dataset, prepared.condition, rows, 99, 32)
    wide = np.delete(rows, 1)
    whole = {sample.row: sample for sample in stored_samples(prepared.dataset, prepared.condition, wide)}
    assert {sample.row for sample in samples} == set(whole)
    assert {sample.image.shape[0] for sample in whole.values()} == {64, 128}
    for sample in samples:
        found = whole[sample.row]
        top = (found.image.shape[0] - 32) // 2
        np.testing.assert_array_equal(sample.image, found.image[top : top + 32, 16:48])
        np.testing.assert_array_equal(sample.maps["canny"], found.maps["canny"][top : top + 32, 16:48])
