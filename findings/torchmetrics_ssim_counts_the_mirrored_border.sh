#!/usr/bin/env bash
# torchmetrics 1.9.0 and scikit-image 0.26.0, with torch 2.14.1
#
# What: structural_similarity_index_measure mirrors the picture at its border and takes the mean over every pixel, so
#   windows that are partly mirrored count. scikit-image's structural_similarity, with the settings that its
#   documentation gives for the paper of Wang et al. (gaussian_weights, sigma 1.5, no sample covariance), leaves a
#   border of 5 pixels out of the mean.
# Seen: 64x64 pictures that differ most in their upper 4 rows: .7671 against .8722. The mean of torchmetrics' own full
#   image without 5 pixels on each side is .8722 too.
# Guessed: with the same window and constants the two agree to rounding.
#
# It matters where SSIM of small maps is laid beside a published value: say which of the two it is.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchmetrics==1.9.0 scikit-image==0.26.0
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

rng = np.random.default_rng(0)
first = rng.random((64, 64))
second = np.clip(0.7 * first + 0.3 * rng.random((64, 64)), 0, 1)
second[:4] = 1 - second[:4]
tensors = [torch.from_numpy(picture)[None, None] for picture in (first, second)]
mean, full = structural_similarity_index_measure(*tensors, data_range=1.0, return_full_image=True)
cropped = structural_similarity(first, second, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
values = [round(float(value), 4) for value in (mean, full[..., 5:-5, 5:-5].mean(), cropped)]
print("torchmetrics, torchmetrics without the border, scikit-image:", *values)
assert values == [0.7671, 0.8722, 0.8722], values
PY
