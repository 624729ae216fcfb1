"""A long trial: damaged pictures of every format make the same bytes twice; what is kept is what others see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from controlmill.pipelines import ingestion
from controlmill.pipelines.engine.process import Resources
from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import open_picture
from controlmill.schemas.names import shard_file
from controlmill.schemas.views.verify import verify
from tests.helpers import scene
from tests.schemas.images.encodings import encoded

COUNT = 10_000
LEVELS = 3  # of the mean difference from an independent decoder
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpg": ("JPEG", {"quality": 90}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "avif": ("AVIF", {"speed": 10}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "packbits.tif": ("TIFF", {"compression": "packbits"}),
    "fax.tif": ("TIFF", {"compression": "group4"}),
}


def mutated(seed: int) -> tuple[str, bytes]:
    """A file's name and bytes: one to four of the bytes wrong, sometimes cut off."""
    rng = np.random.default_rng(seed)
    ending = list(KINDS)[seed % len(KINDS)]
    kind, options = KINDS[ending]
    picture = scene(seed % 97, 96, 80)
    data = bytearray(encoded(picture.convert("1") if ending == "fax.tif" else picture, kind, **options))
    for at in rng.integers(0, len(data), rng.integers(1, 5)):
        data[at] = rng.integers(0, 256)
    if rng.random() < 0.1:
        del data[int(rng.integers(0, len(data))) :]
    return f"{seed:06d}.{ending}", bytes(data)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(COUNT):
        name, data = mutated(seed)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.long
def test_mutated_pictures_make_the_same_bytes_on_every_run(corpus: Path, tmp_path: Path) -> None:
    config = IngestConfig(64, "crop", Limits(max_pixels=1_000_000))
    for name in ("first", "second"):
        with Resources(threads=2) as resources:
            ingestion.ingest(str(corpus), str(tmp_path / name), config, resources)
    first = Dataset.open(str(tmp_path / "first"))
    assert not list(verify(first))
    for table in ("images", "rejected"):
        for shard in range(first.shards):
            name = shard_file(table, shard)
            assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.long
def test_mutated_pictures_that_are_taken_are_what_an_independent_decoder_sees() -> None:
    taken = 0
    for seed in range(COUNT):
        name, data = mutated(seed)
        try:
            found = np.asarray(open_picture(data, Limits(max_pixels=1_000_000)).picture().convert("RGB")).astype(int)
        except Refused:
            continue
        other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if other is None:
            continue
        taken += 1
        assert found.shape == other.shape, name
        assert np.abs(found[..., ::-1] - other).mean() < LEVELS, name
    assert taken > COUNT / 20
