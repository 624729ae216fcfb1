"""The contact sheet."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.views.rows import Row
from controlmill.schemas.views.sheet import contact_sheet, small_cell
from tests.schemas.images.encodings import encoded


@pytest.mark.parametrize(("width", "shown"), [(3000, (256, 3)), (2999, (100, 40))])
def test_a_contact_sheet_holds_small_pictures_only(width: int, shown: tuple[int, int]) -> None:
    """And a note in place of one that has not the size of its row."""
    data = encoded(Image.new("RGB", (3000, 40)), "JPEG")
    row = Row("a", {"images": {"image": {"bytes": data}, "width": width, "height": 40}}, {})
    assert small_cell(row, "images", None).size == shown


def test_a_contact_sheet_of_no_picture_is_an_error(dataset: Path) -> None:
    with pytest.raises(MillError, match="has 10 pictures: there is no row 10 to draw"):
        contact_sheet(Dataset.open(dataset), first=10)
