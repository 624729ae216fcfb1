#!/usr/bin/env bash
# pyarrow 25.0.1
#
# What: Parquet pages written with checksums (write_page_checksum=True) are read without comparing them, unless the
#   reader asks for page_checksum_verification=True. Then a damaged page is an OSError without errno or file name.
# Seen: one byte of a stored picture changed: the plain read returns the changed bytes without a word; with verification
#   "could not verify page integrity, CRC checksum verification failed".
# Guessed: a checksum that is there is compared, as zlib, PNG and most containers do.
#
# It matters for image datasets, whose media columns are plain and uncompressed: nothing else would notice.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1
"$folder/venv/bin/python" - <<'PY'
import io

import pyarrow as pa
import pyarrow.parquet as pq

picture = b"PICTURE" * 100
file = io.BytesIO()
pq.write_table(pa.table({"bytes": [picture]}), file, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False)
data = bytearray(file.getvalue())
data[data.index(picture) + 350] ^= 1
plain = pq.ParquetFile(io.BytesIO(data)).read()["bytes"][0].as_py()
print("plain read: equal to what was written:", plain == picture)
assert plain != picture
try:
    pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read()
except OSError as error:
    print("with verification:", error, "errno", error.errno, "filename", error.filename)
    assert error.errno is None and error.filename is None
else:
    raise AssertionError("the damage passed")
PY
