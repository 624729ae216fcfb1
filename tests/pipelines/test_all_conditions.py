"""`--conditions all`: ten tables in one command, each network real, its weights random."""

from __future__ import annotations

from pathlib import Path

import controlmill
from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.plan import forward_groups
from controlmill.schemas.annotator_records import PlacementRecord
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import LAYOUTS
from controlmill.schemas.views.verify import verify
from tests.annotators import random_weights
from tests.helpers import command, command_in_new_process, rows, write_photos


def test_ten_tables_in_one_command(weights_folder: Path, tmp_path: Path) -> None:
    for group in forward_groups(parse_conditions("all")):
        if network := group.network():
            random_weights.write(network, weights_folder)
    photos = write_photos(tmp_path / "photos", 3)
    words = ("build", str(photos), str(tmp_path / "dataset"), "--conditions", "all", "--weights", str(weights_folder))
    small = ("--resolution", "128", "--min-side", "16", "--dtype", "fp32", "--batch-size", "2")
    refused = command(*words, *small)
    assert refused.returncode == 1
    assert "pose=body: --accept-license openpose" in refused.stderr
    done = command_in_new_process(*words, *small, "--accept-license", "openpose", timeout=580)
    assert done.returncode == 0, done.stderr
    made = Dataset.open(tmp_path / "dataset")
    assert made.condition_tables() == [condition.table for condition in CONDITIONS.values()]
    assert not list(verify(made))
    for condition in CONDITIONS.values():
        found = rows(tmp_path / "dataset", condition.table)
        assert [row["reason"] for row in found] == [None] * 3, condition.name
    assert {type(row["caption"]) for row in rows(tmp_path / "dataset", "captions")} == {str}
    read = controlmill.open_dataset(tmp_path / "dataset")
    assert read.tables == ["images", *made.condition_tables()]
    for row in read.rows():
        height, width, _ = row["images"].shape
        for condition in CONDITIONS.values():
            value = row[condition.table]
            if condition.kind == "text":
                assert isinstance(value, str)
            else:
                dtype, dimensions = LAYOUTS[condition.kind]
                assert (value.dtype, value.ndim, value.shape[:2]) == (dtype, dimensions, (height, width))
    assert rows(tmp_path / "dataset", "images")[0]["caption"] is None
    segmentation = made.footer("segmentation", 0).provenance.made_by
    assert segmentation.placement == PlacementRecord("cpu", "fp32", 2, 1)
    # begun with batches of 2, a table goes on with them
    again = command(*words, *small[:-2], "--accept-license", "openpose")
    assert again.returncode == 0, again.stderr
