#!/usr/bin/env bash
# pillow-heif 1.8.1 with Pillow 12.3.0
#
# What: save("x.heic", exif=...) writes the turn (the irot and imir boxes that HEIF decoders obey) where exif is bytes,
#   and not where it is a PIL.Image.Exif, though both say the same orientation.
# Seen: orientation 6 as bytes: an irot box, opened as 20x40. As Image.Exif: no irot box, opened as 40x20.
# Guessed: both spellings that Pillow's own formats take write the same file.
#
# It matters for whoever makes test pictures "as a phone writes them", or converts photographs to HEIC.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0 pillow-heif==1.8.1
"$folder/venv/bin/python" - <<'PY'
import io

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()
exif = Image.Exif()
exif[274] = 6
found = {}
for name, value in {"bytes": exif.tobytes(), "Image.Exif": exif}.items():
    file = io.BytesIO()
    Image.new("RGB", (64, 32), "red").save(file, "HEIF", exif=value)
    data = file.getvalue()
    found[name] = (b"irot" in data, Image.open(io.BytesIO(data)).size)
    print(name, "irot" if found[name][0] else "no irot", found[name][1])
assert found["bytes"] == (True, (32, 64))
assert found["Image.Exif"] == (False, (64, 32))
PY
