"""What every annotator with a network keeps: batches are singles, threads are one, odd pictures and low precision."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from controlmill.annotators.base import Annotation, Annotator, Network
from controlmill.annotators.catalogue import VARIANTS, load_class
from controlmill.annotators.segmentation import Mask2Former, OneFormer
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.images.codecs import check_map, encode_map
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import outputs

# Networks with the annotators that share them. Faces, hands and beams are slow and add no batching of their own, nor do
# the larger of two that are alike.
LEFT_OUT = ("face", "hands", "blip-large", "oneformer-large", "dpt-large", "lineart-coarse")
NETWORKED: dict[type, list] = {}
for variant in VARIANTS:
    made = load_class(variant.target)
    if made.network and "beams" not in variant.name and variant.name not in LEFT_OUT:
        NETWORKED.setdefault(made.network, []).append(made())
SIZE = 192


class SmallMask2Former(Mask2Former):
    processor: ClassVar[dict[str, Any]] = {"size": {"shortest_edge": 128, "longest_edge": 512}}


class SmallOneFormer(OneFormer):
    processor: ClassVar[dict[str, Any]] = {**OneFormer.processor, "size": {"shortest_edge": 256, "longest_edge": 1024}}


SMALL = {Mask2Former: SmallMask2Former, OneFormer: SmallOneFormer}


# Those seen to be one graph; what torch.compile makes of the others is an error or near, but was not tried.
ONE_GRAPH = ("hed", "mlsd", "upernet", "oneformer", "segformer", "midas", "dpt-hybrid")

# The largest share by which bf16 may differ from fp32, about three times what was measured with these weights. Words
# of random weights are all but tied, so one that differs changes all after it: captions are not bounded here.
BF16 = {
    "hough": 0.05,
    "hed": 0.003,
    "scribble": 0.003,
    "pose": 0.2,
    "segmentation": 0.25,
    "depth": 0.03,
    "normals": 0.04,
    "cartoon": 0.012,
    "caption": 1.0,
}


@pytest.fixture(scope="module", params=NETWORKED, ids=lambda network: network.name)
def network_class(request: pytest.FixtureRequest) -> type[Network]:
    """MiDaS and NormalBae at 192 pixels, OneFormer at 256, Mask2Former at 128, to be quick."""
    network = request.param
    if network in SMALL:
        return SMALL[network]
    if hasattr(network, "resolution"):
        return type(network.__name__, (network,), {"resolution": SIZE})
    return network


@pytest.fixture(scope="module")
def annotators(request: pytest.FixtureRequest, network_class: type[Network]) -> list[Annotator]:
    return NETWORKED.get(network_class) or NETWORKED[network_class.__base__]


@pytest.fixture(scope="module")
def network(load_network: LoadNetwork, network_class: type[Network]) -> Iterator[Network]:
    yield load_network(network_class)
    torch._dynamo.reset()
    gc.collect()  # what came of one class, up to a gigabyte each, would be kept for long


@pytest.fixture(scope="module")
def images(photos_of_size: Photos) -> list[np.ndarray]:
    return photos_of_size(SIZE)[:2]


@pytest.fixture(scope="module")
def singles(network: Network, images: list[np.ndarray]) -> list[Any]:
    """Outputs, one picture at a time, at fp32."""
    return outputs(network, images)


@pytest.fixture(scope="module")
def together(network: Network, images: list[np.ndarray]) -> list[Any]:
    """Outputs of one batch of all pictures, at fp32."""
    return outputs(network, images, batch=2)


def annotated(annotator: Annotator, image: np.ndarray, output: Any) -> Annotation:
    return annotator.annotate(image, output, annotator.draw(np.random.default_rng(0)))


def check(annotator: Annotator, annotation: Annotation, image: np.ndarray) -> None:
    kind = CONDITIONS[annotator.condition].kind
    if kind == "text":
        assert isinstance(annotation.map, str)
        return
    check_map(kind, annotation.map, image.shape[:2])
    drawn = annotator.draw(np.random.default_rng(0))
    assert {*annotation.columns, *drawn} == set(annotator.columns)
    values = [value for value in annotation.columns.values() if not isinstance(value, list)]
    assert np.isfinite(np.array(values, np.float64)).all()


def as_bytes(annotator: Annotator, annotation: Annotation) -> bytes:
    if isinstance(annotation.map, str):
        return annotation.map.encode()
    return encode_map(CONDITIONS[annotator.condition].kind, annotation.map, palette=annotator.palette)


def numbers(output: Any) -> np.ndarray:
    """An output as one float array, whatever it is."""
    if isinstance(output, np.ndarray):
        return output.astype(np.float64)
    if isinstance(output, str):
        return np.frombuffer(output.encode(), np.uint8).astype(np.float64)
    if hasattr(output, "ends"):
        return np.concatenate([output.ends.ravel(), output.scores, output.lengths])
    points = [point for person in output for point in person.body.keypoints if point]
    return np.array([value for point in points for value in (point.x, point.y, point.score)])


def test_batch_is_singles(network: Network, singles: list[Any], together: list[Any]) -> None:
    for one, other in zip(map(numbers, singles), map(numbers, together), strict=True):
        assert one.shape == other.shape
        if network.name in ("upernet", "segformer", "oneformer"):
            assert np.mean(one != other) < 1e-3  # ids: of two scores that are nearly equal either may win
            continue
        difference = np.abs(one - other).max(initial=0.0) / max(1.0, np.abs(one).max(initial=0.0))
        print(f"batch {network.name}: {difference:.1e}")
        # NormalBae with the kernels of AVX2 and of SSE 4.1: 1.0e-6 and 1.1e-6
        assert difference <= (2e-6 if network.name == "normalbae" else 1e-6)


def test_padded_batches_give_the_same_bytes(
    annotators: list[Annotator], network: Network, images: list[np.ndarray], together: list[Any]
) -> None:
    padded = [outputs(network, [image], batch=2)[0] for image in images]
    for annotator in annotators:
        for image, one, other in zip(images, together, padded, strict=True):
            assert as_bytes(annotator, annotated(annotator, image, one)) == as_bytes(
                annotator, annotated(annotator, image, other)
            )


def test_two_threads_are_one(
    annotators: list[Annotator], network: Network, images: list[np.ndarray], singles: list[Any]
) -> None:
    lock = threading.Lock()

    def run(image: np.ndarray) -> list[bytes]:
        prepared = network.preprocess(image)
        with lock:
            raw = network.forward([prepared])[0]
        output = network.postprocess(raw, image)
        return [as_bytes(annotator, annotated(annotator, image, output)) for annotator in annotators]

    expected = [
        [as_bytes(annotator, annotated(annotator, image, output)) for annotator in annotators]
        for image, output in zip(images, singles, strict=True)
    ]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, images)) == expected


@pytest.mark.parametrize(
    ("size", "value"),
    [((128, 128), 0), ((128, 128), 255), ((64, 640), None), ((900, 64), None), ((97, 131), None)],
    ids=["black", "white", "64x640", "900x64", "97x131"],
)
def test_odd_pictures(
    annotators: list[Annotator], network: Network, photos_of_size: Photos, size: tuple[int, int], value: int | None
) -> None:
    height, width = size
    if value is None:
        image = np.tile(photos_of_size(SIZE)[0], (-(-height // SIZE), -(-width // SIZE), 1))[:height, :width]
    else:
        image = np.full((height, width, 3), value, np.uint8)
    before = image.copy()
    output = outputs(network, [image])[0]
    for annotator in annotators:
        check(annotator, annotated(annotator, image, output), image)
    assert np.array_equal(image, before), "the picture was changed"


def test_bf16_is_near(
    annotators: list[Annotator],
    network_class: type[Network],
    load_network: LoadNetwork,
    images: list[np.ndarray],
    singles: list[Any],
) -> None:
    low = load_network(network_class, "bf16")
    near = outputs(low, images)
    for annotator in annotators:
        shares = []
        for image, output, other in zip(images, singles, near, strict=True):
            found = annotated(annotator, image, other)
            check(annotator, found, image)
            shares.append(difference(annotator, annotated(annotator, image, output), found))
        print(f"bf16 {annotator.condition}={annotator.variant}: {np.mean(shares):.4f}")
        assert np.mean(shares) <= BF16[annotator.condition]
    layers = [layer for value in vars(low).values() if isinstance(value, torch.nn.Module) for layer in value.modules()]
    weights = [layer.weight.dtype for layer in layers if type(layer) is torch.nn.Conv2d]
    assert set(weights) == {torch.bfloat16}, "cast once, not in every call"


def test_compiled_is_near(
    annotators: list[Annotator],
    network_class: type[Network],
    load_network: LoadNetwork,
    images: list[np.ndarray],
    singles: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if network_class.name not in ONE_GRAPH:
        pytest.skip("not tried")
    compile, graphs = torch.compile, []

    def kept(graph: torch.fx.GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        """In place of a C++ compiler, which takes a minute."""
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr("torch.compile", lambda run, **options: compile(run, backend=kept, **options))
    near = outputs(load_network(network_class, compile=True), images)
    assert len(graphs) == 1, "compiled once for all batches of a shape"
    for annotator in annotators:
        shares = [
            difference(annotator, *(annotated(annotator, image, found) for found in (output, other)))
            for image, output, other in zip(images, singles, near, strict=True)
        ]
        print(f"compiled {annotator.condition}={annotator.variant}: {np.mean(shares):.6f}")
        assert np.mean(shares) <= 1e-4


def difference(annotator: Annotator, one: Annotation, other: Annotation) -> float:
    """Mean difference as a share of the range; for lines, classes and words the share that differs."""
    kind = CONDITIONS[annotator.condition].kind
    if kind == "text":
        words, others = one.map.split(), other.map.split()
        return 1 - sum(a == b for a, b in zip(words, others, strict=False)) / max(len(words), len(others))
    if kind in ("binary", "labels"):
        return float(np.mean(one.map != other.map))
    top = 65535 if kind == "gray16" else 255
    return float(np.mean(np.abs(one.map.astype(float) - other.map)) / top)
