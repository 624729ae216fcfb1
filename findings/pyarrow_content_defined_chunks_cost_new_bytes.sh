#!/usr/bin/env bash
# pyarrow 25.0.1, NumPy 2.4.6
#
# What: use_content_defined_chunking=True, which is meant to make an edited Parquet file share more bytes with the old one,
#   makes it share fewer where a column holds pictures (uncompressed values of tens of kilobytes).
# Seen: 512 rows with pictures of about 100 kB, 5 rows inserted (1 % of the bytes). Both files are cut by a gear hash into
#   chunks of about 64 KiB, as stores that deduplicate by content do. Share of the new file's bytes that the old one has not:
#                                   without   with
#     row groups of 64 rows            .047    .184
#     one row group                    .024    .176
# Guessed: with content-defined chunks nearly 1 %, without them much more. But pictures are larger than a store's chunks and
#   plain values lie in the file as they are, so the store finds them anyway; the writer's own, smaller pages put a header
#   between and inside runs of equal bytes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GEAR = np.random.default_rng(1).integers(0, 2**63, 256, dtype=np.uint64)
LEAST, MOST = 8 * 1024, 128 * 1024
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def chunks(data):
    """Cut where the hash of the last 64 bytes ends in 16 zeros."""
    values = GEAR[np.frombuffer(data, np.uint8)]
    hashes = np.zeros(len(values), np.uint64)
    for back in range(64):
        hashes[back:] += values[: len(values) - back] << np.uint64(back)
    start = 0
    for cut in np.flatnonzero(hashes >> np.uint64(48) == 0) + 1:
        while cut - start > MOST:
            yield data[start : start + MOST]
            start += MOST
        if cut - start >= LEAST:
            yield data[start:cut]
            start = int(cut)
    yield data[start:]


def written(rows, group, defined):
    keys = [f"{number:032x}" for number, _ in rows]
    pictures = pa.array([{"bytes": data, "path": None} for _, data in rows], PICTURE)
    file = io.BytesIO()
    pq.write_table(
        pa.table({"key": keys, "image": pictures}),
        file,
        row_group_size=group,
        compression="none",
        use_dictionary=False,
        use_content_defined_chunking=defined,
    )
    return file.getvalue()


draw = np.random.default_rng(0)
old = [(number, draw.bytes(int(draw.integers(50_000, 150_000)))) for number in range(512)]
new = list(old)
for more, at in enumerate(sorted(draw.choice(512, 5, replace=False))):
    new.insert(int(at) + more, (10_000 + more, draw.bytes(100_000)))
for group in (64, 1_000_000):
    share = {}
    for defined in (False, True):
        known = {hashlib.sha256(chunk).digest() for chunk in chunks(written(old, group, defined))}
        data = written(new, group, defined)
        fresh = sum(len(chunk) for chunk in chunks(data) if hashlib.sha256(chunk).digest() not in known)
        share[defined] = fresh / len(data)
    print(f"row groups of {group}: {share[False]:.3f} without, {share[True]:.3f} with content-defined chunks")
    assert share[True] > 2 * share[False]
PY
