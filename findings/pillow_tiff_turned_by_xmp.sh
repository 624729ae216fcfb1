#!/usr/bin/env bash
# Pillow 12.3.0
#
# What: decoding a TIFF turns it by an orientation that stands in its XMP packet alone (tiff:Orientation), though the
#   file has no Orientation tag. Image.size is the turned one only after load().
# Seen: a 40x20 TIFF without tag 274 whose XMP says 6: size (40, 20) when opened, (20, 40) after load(). The same
#   XMP in a PNG turns nothing in load().
# Guessed: tag 274 decides; XMP is metadata that a decoder does not act on (OpenCV and libvips do not).
#
# It matters where maps are aligned with photographs: one of two files is turned, and sizes read from headers are wrong.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0
"$folder/venv/bin/python" - <<'PY'
import io

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

xmp = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
tags = ImageFileDirectory_v2()
tags[700] = xmp
tags.tagtype[700] = 1
file = io.BytesIO()
Image.new("RGB", (40, 20), "red").save(file, "TIFF", tiffinfo=tags)
image = Image.open(io.BytesIO(file.getvalue()))
assert 274 not in image.tag_v2
before = image.size
image.load()
print("TIFF without tag 274, XMP says 6:", before, "then", image.size)
assert (before, image.size) == ((40, 20), (20, 40))

image = Image.open(io.BytesIO(file.getvalue()))
image.info.pop("xmp")
image.load()
print("its xmp taken out of info first:", image.size)
assert image.size == (40, 20)
PY
