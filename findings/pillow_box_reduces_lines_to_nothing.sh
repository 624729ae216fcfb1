#!/usr/bin/env bash
# Pillow 12.3.0 with NumPy 2.4.6
#
# What: Image.resize(..., Resampling.BOX) in mode L reduces along x, rounds to 8 bits, and then reduces along y and rounds
#   again. What is small after the first pass is rounded up or away, so the result is not the area mean.
# Seen: a random mask of values 0 and 1 of mean 0.5, halved: mean 0.938 in mode L, 0.5 in mode F. A map of
#   600x600 with one white column, reduced to one pixel: 0 in mode L; 0.425, its mean, in mode F.
# Guessed: BOX is the area mean, rounded once at the end, so that mode L is mode F rounded.
#
# It matters where full-size masks and edge maps become training maps: reduce them in mode F, and threshold after that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
noise = rng.integers(0, 2, (600, 600)).astype(np.uint8)  # values of 0 and 1, as masks have
mean = float(noise.mean())
whole = Image.fromarray(noise)
small = {mode: np.asarray(whole.convert(mode).resize((300, 300), Image.Resampling.BOX), np.float64) for mode in "LF"}
means = {mode: round(float(a.mean()), 3) for mode, a in small.items()}
print("a mask of 0 and 1, halved: mean", round(mean, 3), means)
assert means["L"] > 0.9 and abs(means["F"] - mean) < 1e-3

lines = np.zeros((600, 600), np.uint8)
lines[:, 0] = 255
whole = Image.fromarray(lines)
one = {mode: float(np.asarray(whole.convert(mode).resize((1, 1), Image.Resampling.BOX))[0, 0]) for mode in "LF"}
print("a white column, to one pixel:", one, "mean", float(lines.mean()))
assert abs(one["F"] - lines.mean()) < 1e-3
assert one["L"] == 0.0
PY
