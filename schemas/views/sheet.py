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
NARROWEST = 100  # so that the names of tables fit


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
        [small_cell(row, table, kind) for table, kind in kinds.items()]
        for row in aligned_rows(dataset, columns, first, rows)
    ]
    if not shown:
        raise MillError(
            f"{dataset.storage.address} has {states[IMAGES].rows:,} pictures: there is no row {first} to draw"
        )
    widths = [max(NARROWEST, *(cells[x].width for cells in shown)) for x in range(len(columns))]
    heights = [max(cell.height for cell in cells) for cells in shown]
    sheet = Image.new(
        "RGB", (GAP + sum(widths) + GAP * len(widths), LABEL + GAP + sum(heights) + GAP * len(heights)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    left = GAP
    for x, (table, width) in enumerate(zip(columns, widths, strict=True)):
        draw.text((left, 3), printable(table), fill="black", font_size=13)
        top = LABEL + GAP
        for cells, height in zip(shown, heights, strict=True):
            sheet.paste(cells[x], (left, top))
            top += height + GAP
        left += width + GAP
    return sheet


def small_cell(row: Row, table: str, kind: Kind | None) -> Image.Image:
    """What a sheet shows of a row in a table, made small at once: a sheet has hundreds of them."""
    data, image = row.data(table), row.columns(IMAGES)
    size = image["height"], image["width"]
    if data is None:
        return _note(f"refused: {row.reason(table)}")
    try:
        cell = map_picture(kind, data, size) if kind else Image.fromarray(decode_image(data, size))
    except ValueError as error:
        return _note(str(error))
    cell.thumbnail((CELL, CELL))
    return cell


def _note(words: str) -> Image.Image:
    lines = textwrap.wrap(printable(words), 13)[:8]
    cell = Image.new("RGB", (NARROWEST, max(2, len(lines)) * 16 + 8), "lightgray")
    ImageDraw.Draw(cell).text((4, 4), "\n".join(lines), fill="black", font_size=13)
    return cell
