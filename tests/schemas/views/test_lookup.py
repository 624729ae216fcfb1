"""Rows at places of a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.views.lookup import rows_at
from tests.helpers import places, rows


def test_rows_are_those_at_their_places_in_any_number(dataset: Path) -> None:
    images, maps = rows(dataset, "images"), rows(dataset, "canny")
    opened, at = Dataset.open(dataset), places(dataset)
    for chosen in (list(range(len(at))), [1, 1, 4, 7, 7], []):
        found = list(rows_at(opened, {"images": ["source"], "canny": ["map", "low"]}, [at[i] for i in chosen]))
        assert [row["images"]["source"] for row in found] == [images[i]["source"] for i in chosen]
        assert [row["canny"] for row in found] == [{n: maps[i][n] for n in ("key", "map", "low")} for i in chosen]


def test_a_row_that_is_not_there_is_an_error(dataset: Path) -> None:
    for place in ((0, 99), (0, -1)):
        with pytest.raises(MillError, match="has no row"):
            list(rows_at(Dataset.open(dataset), {"images": ["source"]}, [place]))
