"""A contact sheet: pictures and their maps side by side, because wrong maps are seen at once and hard to compute."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw

from .codecs import decode_image, map_picture
from .dataset import Dataset
from .errors import MillError
from .printing import printable
from .shardfile import read_rows

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
    if "images" not in ready:
        raise MillError(f"the images of {dataset.storage.address} are not complete")
    maps = [table for table in dataset.condition_tables() if table in ready and table != "captions"]
    for table in tables or ():
        if table not in maps:
            raise MillError(f"{table} is not a complete table of maps; there are: {', '.join(maps)}")
    columns = ["images", *(tables or maps)]
    shown = list(_rows(dataset, columns, first, rows))
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


def _rows(dataset: Dataset, columns: Sequence[str], first: int, count: int) -> list[list[Image.Image]]:
    found: list[list[Image.Image]] = []
    index = dataset.index("images")
    for shard, entry in enumerate(index["shards"] if index else ()):
        if first >= entry["rows"]:
            first -= entry["rows"]
            continue
        cells = [_column(dataset, table, shard, first, count - len(found)) for table in columns]
        if len(set(map(len, cells))) > 1:
            raise MillError(f"tables of shard {shard} do not have the same rows: controlmill verify tells more")
        found += [list(row) for row in zip(*cells, strict=True)]
        first = 0
        if len(found) >= count:
            break
    return found


def _column(dataset: Dataset, table: str, shard: int, first: int, count: int) -> list[Image.Image]:
    cells = []
    with dataset.parquet(table, shard) as parquet:
        column = "image" if table == "images" else "map"
        for number, row in enumerate(read_rows(parquet, [column, *(["reason"] if column == "map" else [])])):
            if number >= first + count:
                break
            if number >= first:
                cells.append(_cell(dataset, table, row, column))
    return cells


def _cell(dataset: Dataset, table: str, row: dict, column: str) -> Image.Image:  # type: ignore[type-arg]
    if row[column] is None:
        return _blank(f"refused: {row['reason']}")
    data = row[column]["bytes"] or b""
    try:
        if column == "map":
            return map_picture(dataset.condition(table).kind, data)
        return Image.fromarray(decode_image(data))
    except ValueError as error:
        return _blank(str(error))


def _blank(words: str) -> Image.Image:
    cell = Image.new("RGB", (CELL, CELL), "lightgray")
    lines = "\n".join(textwrap.wrap(printable(words), 34)[:8])
    ImageDraw.Draw(cell).text((8, CELL // 3), lines, fill="black", font_size=13)
    return cell
