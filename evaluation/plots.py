"""Curves and grids of pictures, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

GAP = 2
LABEL_WIDTH = 84
MIN_TILE = 96
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # of files that save_picture writes


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
    """Write uint8 (H, W, 3); the name ends in one of SUFFIXES."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def axes(titles: Sequence[str], width: float = 4.2) -> tuple[Any, Any]:
    """(figure, axes side by side), without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * len(titles), 3.2), layout="constrained")
    made = figure.subplots(1, len(titles), squeeze=False)[0]
    for axis, title in zip(made, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("optimiser steps")
        axis.grid(alpha=0.3)
    return figure, made


def run_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss, gain and benefit, and fidelity of one run."""
    figure, (loss, gain, fidelity) = axes(("loss", "condition gain and benefit", "fidelity"))
    trained = [line for line in lines if "loss" in line]
    if trained:
        steps, losses = np.array([line["step"] for line in trained]), np.array([line["loss"] for line in trained])
        width = max(1, len(losses) // 50)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        loss.plot(steps[width - 1 :], smooth, lw=1, label="training, smoothed")
    looked = [line for line in lines if "gain" in line]
    steps = np.array([line["step"] for line in looked])
    loss.plot(steps, [line["held_out_loss"] for line in looked], "o-", ms=3, label="held out")
    loss.plot(steps, [line["base_loss"] for line in looked], "--", color="grey", label="base alone")
    loss.legend(fontsize=7)
    for name in ("gain", "benefit"):
        values = np.array([line[name] for line in looked])
        errors = np.array([line[f"{name}_error"] for line in looked])
        gain.plot(steps, values, "o-", ms=3, label=name)
        gain.fill_between(steps, values - errors, values + errors, alpha=0.2)
    gain.axhline(0, color="grey", lw=0.8)
    gain.legend(fontsize=7)
    judged = [line for line in looked if "fidelity" in line]
    if judged:
        fidelity.plot([line["step"] for line in judged], [line["fidelity"] for line in judged], "o-", ms=3)
        fidelity.axhline(judged[-1]["floor"], color="grey", ls="--", lw=1, label="floor: no control")
        fidelity.axhline(
            judged[-1]["ceiling"], color="green", ls="--", lw=1, label="ceiling: true picture through the VAE"
        )
        fidelity.legend(fontsize=7)
    else:
        fidelity.text(0.5, 0.5, "not measured", ha="center", transform=fidelity.transAxes)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
