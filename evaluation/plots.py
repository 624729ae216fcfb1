"""Curves and grids of pictures, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from controlmill.schemas.files.whole import replacing

GAP = 2
LABEL_WIDTH = 84
MIN_TILE = 96
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # that save_picture writes


def picture_grid(rows: Mapping[str, Sequence[np.ndarray]]) -> np.ndarray:
    """One labelled row for each entry; pictures are uint8 (H, W, 3) of one size. uint8 (H', W', 3)."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    scale = max(1, -(-MIN_TILE // max(height, width)))
    height, width = height * scale, width * scale
    columns = max(len(pictures) for pictures in rows.values())
    size = LABEL_WIDTH + columns * (width + GAP), len(rows) * (height + GAP)
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    for r, (name, pictures) in enumerate(rows.items()):
        top = r * (height + GAP)
        pen.text((4, top + height // 2 - 6), name, fill="black")
        for c, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(tile, (LABEL_WIDTH + c * (width + GAP), top))
    return np.asarray(canvas)


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write uint8 (H, W, 3), whole or not at all; the name ends in one of FORMATS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        Image.fromarray(picture).save(scratch, format=FORMATS[path.suffix.lower()])


def axes(titles: Sequence[str]) -> tuple[Any, Any]:
    """(figure, axes side by side), without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(titles), 3.2), layout="constrained")
    made = figure.subplots(1, len(titles), squeeze=False)[0]
    for axis, title in zip(made, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("optimiser steps")
        axis.grid(alpha=0.3)
    return figure, made


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=110, format="png")
