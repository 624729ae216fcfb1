"""What every annotator with a network keeps: batches are singles, threads are one, odd pictures and low precision."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from controlmill.annotators.catalogue import VARIANTS, load_class
from controlmill.schemas.codecs import check_map, encode_map
from controlmill.schemas.conditions import CONDITIONS

from .running import annotate, outputs

# one variant a network is enough; faces and hands are slow and add no batching of their own
NETWORKED = {
    (variant.condition, variant.name): load_class(variant.target)
    for variant in VARIANTS
    if load_class(variant.target).network
    and "beams" not in variant.name
    and variant.name not in ("face", "hands", "blip-large")
}
SIZE = 256

# The largest share by which bf16 may differ from fp32: of 255 levels on average, or of pixels or words that differ.
BF16 = {
    "hough": 0.05,
    "hed": 0.01,
    "scribble": 0.05,
    "pose": 0.2,
    "segmentation": 0.5,
    "depth": 0.05,
    "normals": 0.1,
    "cartoon": 0.05,
    "caption": 1.0,
}


@pytest.fixture(scope="module", params=NETWORKED.values(), ids=["=".join(key) for key in NETWORKED])
def annotator(request):
    return request.param()


@pytest.fixture(scope="module")
def network_class(annotator):
    """MiDaS and NormalBae at 256 pixels, to be quick."""
    network = annotator.network
    return type(network.__name__, (network,), {"resolution": SIZE}) if hasattr(network, "resolution") else network


@pytest.fixture(scope="module")
def network(load, network_class):
    return load(network_class)


def check(annotator, annotation, image) -> None:
    kind = CONDITIONS[annotator.condition].kind
    if kind == "text":
        assert isinstance(annotation.map, str)
        return
    check_map(kind, annotation.map, image.shape[:2])
    drawn = annotator.draw(np.random.default_rng(0))
    assert {*annotation.columns, *drawn} == set(annotator.columns)
    values = [value for value in annotation.columns.values() if not isinstance(value, list)]
    assert np.isfinite(np.array(values, np.float64)).all()


def as_bytes(annotator, annotation) -> bytes:
    if isinstance(annotation.map, str):
        return annotation.map.encode()
    return encode_map(CONDITIONS[annotator.condition].kind, annotation.map, palette=annotator.palette)


def numbers(output) -> np.ndarray:
    """An output as one float array, whatever it is."""
    if isinstance(output, np.ndarray):
        return output.astype(np.float64)
    if isinstance(output, str):
        return np.frombuffer(output.encode(), np.uint8).astype(np.float64)
    if hasattr(output, "ends"):
        return np.concatenate([output.ends.ravel(), output.scores, output.lengths])
    points = [point for person in output for point in person.body.keypoints if point]
    return np.array([value for point in points for value in (point.x, point.y, point.score)])


def test_batch_is_singles(annotator, network, photos):
    images = photos(SIZE)
    single, batched = (outputs(network, images, batch) for batch in (1, 2))
    for one, other in zip(map(numbers, single), map(numbers, batched), strict=True):
        assert one.shape == other.shape
        if annotator.condition == "segmentation":
            assert np.mean(one != other) < 1e-3  # ids; near ties may fall either way
        else:
            scale = max(1.0, np.abs(one).max(initial=0.0))
            print(f"{annotator.condition}: {np.abs(one - other).max(initial=0.0) / scale:.1e}")
            assert np.abs(one - other).max(initial=0.0) <= 1e-5 * scale


def test_padded_batches_give_the_same_bytes(annotator, network, photos):
    images = photos(SIZE)[:2]
    together = [as_bytes(annotator, a) for a in annotate(annotator, network, images, batch=2)]
    padded = [as_bytes(annotator, annotate(annotator, network, [image], batch=2)[0]) for image in images]
    if not annotator.draw(np.random.default_rng(0)):
        assert together == padded


def test_two_threads_are_one(annotator, network, photos):
    images = photos(SIZE)
    lock = threading.Lock()

    def run(image):
        prepared = network.preprocess(image)
        with lock:
            raw = network.forward([prepared])[0]
        drawn = annotator.draw(np.random.default_rng(0))
        return as_bytes(annotator, annotator.annotate(image, network.postprocess(raw, image), drawn))

    expected = [run(image) for image in images]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, images)) == expected


@pytest.mark.parametrize(
    ("size", "value"),
    [((128, 128), 0), ((128, 128), 255), ((64, 2048), None), ((3000, 64), None), ((97, 131), None)],
    ids=["black", "white", "64x2048", "3000x64", "97x131"],
)
def test_odd_pictures(annotator, network, photos, size, value):
    height, width = size
    photo = photos(SIZE)[0]
    if value is None:
        image = np.tile(photo, (-(-height // SIZE), -(-width // SIZE), 1))[:height, :width]
    else:
        image = np.full((height, width, 3), value, np.uint8)
    if annotator.condition == "pose" and width > 1000:
        pytest.skip("32 times the work of a square: see test_openpose.py for thin pictures")
    before = image.copy()
    annotation = annotate(annotator, network, [image])[0]
    check(annotator, annotation, image)
    assert np.array_equal(image, before), "the picture was changed"


def test_bf16_is_near(annotator, network, network_class, load, photos):
    images = photos(SIZE)[:2]
    exact = annotate(annotator, network, images)
    near = annotate(annotator, load(network_class, "bf16"), images)
    kind = CONDITIONS[annotator.condition].kind
    shares = []
    for one, other, image in zip(exact, near, images, strict=True):
        check(annotator, other, image)
        if kind == "text":
            words, others = one.map.split(), other.map.split()
            shares.append(1 - sum(a == b for a, b in zip(words, others, strict=False)) / max(len(words), len(others)))
        elif kind in ("binary", "labels"):
            shares.append(np.mean(one.map != other.map))
        else:
            top = 65535 if kind == "gray16" else 255
            shares.append(np.mean(np.abs(one.map.astype(float) - other.map)) / top)
    print(f"bf16 {annotator.condition}={annotator.variant}: {np.mean(shares):.4f}")
    assert np.mean(shares) <= BF16[annotator.condition]
