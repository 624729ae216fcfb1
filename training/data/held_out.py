"""The held-out rows that a run is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from controlmill.evaluation.measures.keypoints import within
from controlmill.evaluation.rows import Sample
from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.maps.transforms import Augment, augment

from .loader import row_groups
from .reader import RowReader
from .selection import common_shapes


def held_out_samples(
    dataset: Dataset, condition: Condition, rows: np.ndarray, count: int, side: int, columns: Sequence[str] = ()
) -> list[Sample]:
    """The first ``count`` rows by hash, of one shape because they go through the networks in batches.

    Where a run trains on windows of ``side`` pixels, the window in the middle of each picture that is large enough;
    where ``side`` is 0, whole pictures of the commonest shape.

    Args:
        dataset: with the condition's table.
        condition: whose maps are read.
        rows: of :class:`~.selection.Selection`.
        count: at most so many samples.
        side: of the window, or 0.
        columns: scalar columns of the condition's table to read too.
    """
    if not len(rows):
        return []
    if side:
        rows = rows[(rows["height"] >= side) & (rows["width"] >= side)]
    else:
        height, width = common_shapes(rows)[0]
        rows = rows[(rows["height"] == height) & (rows["width"] == width)]
    chosen = rows[np.argsort(rows["rank"], kind="stable")][:count]
    samples = stored_samples(dataset, condition, chosen, columns)
    return [_middle(sample, condition, side) for sample in samples] if side else samples


def stored_samples(
    dataset: Dataset, condition: Condition, rows: np.ndarray, columns: Sequence[str] = ()
) -> list[Sample]:
    """Decoded rows as they are stored, in the order of their hashes."""
    rows = np.sort(rows, order=["shard", "row"])
    groups, numbers = row_groups(rows), rows["row"].tolist()

    def due(shard: int, group: int, now: Sequence[int]) -> dict[int, float]:
        return {number: float(number) for number in numbers[groups[shard, group]]}

    reader = RowReader(dataset, {condition.table: condition}, due, columns=columns)
    samples = [reader.decode(row, reader.take(row, ()), 0, 0, Augment()) for row in rows]
    return [samples[i] for i in np.argsort(rows["rank"], kind="stable")]


def _middle(sample: Sample, condition: Condition, side: int) -> Sample:
    """A sample cut to the window around its middle, with the keypoints that are in it."""
    height, width = sample.picture.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    window = (top, left, side, side, False)
    image, maps = augment(sample.picture, sample.maps, {condition.table: condition}, window)
    columns = dict(sample.columns)
    if "keypoints" in columns:
        columns["keypoints"] = within(columns["keypoints"], left, top, side)
    return replace(sample, image=image, maps=maps, columns=columns)
