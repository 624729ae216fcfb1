"""A contact sheet: pictures and their maps side by side, because wrong maps are seen at once and hard to compute."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..dataset import Dataset
from ..errors import MillError
from ..images.codecs import decode_image, map_picture
from ..kinds import Kind
from ..tables import IMAGES
from ..terminal.printing import printable
from .rows import Row, aligned_rows

CELL = 256
GAP = 6
LABEL = 18


def contact_sheet(dataset: Dataset, rows: int = 8, first: int = 0, tables: Sequence[str] | None = None) -> Image.Image:
    """``rows`` pictures from row ``first`` on, each with its maps; a refused map shows its reason.

    Raises:
        MillError: the images are not complete, or a named table is not, or there are no such rows.
    """
    states = {table: dataset.state(table) for table in dataset.tables()}
    ready = [table for table, state in states.items() if state.status == "complete"]
    if IMAGES not in ready:
        raise MillError(f"the images of {dataset.storage.address} are not complete")
    maps = [table for table in dataset.condition_tables() if table in ready and table != "captions"]
    for table in tables or ():
        if table not in maps:
            raise MillError(f"{table} is not a complete table of maps; there are: {', '.join(maps)}")
    columns = [IMAGES, *(tables or maps)]
    kinds = {table: None if table == IMAGES else dataset.condition(table).kind for table in columns}
    shown = [
        [_cell(row, table, kind) for table, kind in kinds.items()]
        for row in aligned_rows(dataset, columns, first, rows)
    ]
    if not shown:
        raise MillError(f"there is no row {first}")
    width = len(columns) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, LABEL + GAP + len(shown) * (CELL + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for x, table in enumerate(columns):
        draw.text((GAP + x * (CELL + GAP), 3), printable(table), fill="black", font_size=13)
    for y, cells in enumerate(shown):
        for x, cell in enumerate(cells):
            cell.thumbnail((CELL, CELL))
            sheet.paste(cell, (GAP + x * (CELL + GAP), LABEL + GAP + y * (CELL + GAP)))
    return sheet


def _cell(row: Row, table: str, kind: Kind | None) -> Image.Image:
    data = row.data(table)
    if data is None:
        return _blank(f"refused: {row.reason(table)}")
    try:
        return map_picture(kind, data) if kind else Image.fromarray(decode_image(data))
    except ValueError as error:
        return _blank(str(error))


def _blank(words: str) -> Image.Image:
    cell = Image.new("RGB", (CELL, CELL), "lightgray")
    lines = "\n".join(textwrap.wrap(printable(words), 34)[:8])
    ImageDraw.Draw(cell).text((8, CELL // 3), lines, fill="black", font_size=13)
    return cell
