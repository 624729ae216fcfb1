#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, Pillow 12.3.0
#
# What: imread and imdecode turn a picture upright by the rule of its format. JPEG, PNG and WebP are turned by EXIF, unless
#   IMREAD_IGNORE_ORIENTATION or IMREAD_UNCHANGED is given. A TIFF is turned whatever the flags. An AVIF is never turned,
#   although its `irot` box is not metadata but part of how it is shown.
# Seen: a picture of 64x40 pixels with orientation 6, so 40x64 upright, as (width, height):
#                       JPEG PNG WebP    TIFF    AVIF
#     IMREAD_COLOR         40x64         40x64   64x40
#     IGNORE_ORIENTATION   64x40         40x64   64x40
#     IMREAD_UNCHANGED     64x40         40x64   64x40
# Guessed: one rule for all formats, and IMREAD_IGNORE_ORIENTATION obeyed.
#
# It matters where maps are aligned with pictures that another library decoded: part of a corpus is turned twice, or not at all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==12.3.0
"$folder/venv/bin/python" - <<'PY'
import io

import cv2
import numpy as np
from PIL import Image, ImageOps

FLAGS = (cv2.IMREAD_COLOR, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, cv2.IMREAD_UNCHANGED)
TURNED, AS_STORED = (40, 64), (64, 40)
EXPECTED = {
    **dict.fromkeys(("JPEG", "PNG", "WEBP"), [TURNED, AS_STORED, AS_STORED]),
    "TIFF": [TURNED, TURNED, TURNED],
    "AVIF": [AS_STORED, AS_STORED, AS_STORED],
}
pixels = np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8)
exif = Image.Exif()
exif[0x0112] = 6
for name, expected in EXPECTED.items():
    file = io.BytesIO()
    how = {"tiffinfo": {0x0112: 6}} if name == "TIFF" else {"exif": exif}
    Image.fromarray(pixels).save(file, name, **how)
    assert ImageOps.exif_transpose(Image.open(file)).size == TURNED, name
    data = np.frombuffer(file.getvalue(), np.uint8)
    sizes = [cv2.imdecode(data, flag).shape[1::-1] for flag in FLAGS]
    print(name, sizes)
    assert sizes == expected, name
PY
