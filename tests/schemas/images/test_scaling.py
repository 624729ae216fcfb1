"""Pictures are scaled by Lanczos, as exactly as 8 bits allow, on any processor alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cykooz_resizer
import numpy as np
import pytest
from PIL import Image

from controlmill.schemas.images import scaling
from controlmill.schemas.images.scaling import Window, scaled

CASES: list[tuple[str, Window, tuple[int, int]]] = [
    ("RGB", (0, 0, 300, 200), (128, 96)),
    ("RGB", (10.25, 7.5, 290.75, 200), (61, 87)),
    ("RGB", (0, 0, 300, 200), (512, 340)),
    ("L", (0.5, 0, 300, 199.5), (7, 150)),
    ("CMYK", (3, 2, 203, 102), (100, 51)),
]


def picture(mode: str) -> Image.Image:
    """A photograph's like: soft, with noise, far from black and white where Lanczos would overshoot them."""
    rows, columns = np.mgrid[:200, :300]
    channels = [110 + 50 * np.sin(rows / (9 + 4 * number)) * np.cos(columns / 13) for number in range(4)]
    noise = np.random.default_rng(1).normal(0, 6, (200, 300, 4))
    values = (np.stack(channels, axis=2) + noise).round().astype(np.uint8)
    return Image.merge(mode, [Image.fromarray(values[..., number]) for number in range(len(mode))])


@pytest.mark.parametrize(("mode", "window", "size"), CASES)
def test_values_are_those_of_exact_lanczos_but_for_rounding(mode: str, window: Window, size: tuple[int, int]) -> None:
    image = picture(mode)
    found = np.asarray(scaled(image, window, size)).reshape(size[1], size[0], -1)
    for channel, band in enumerate(image.split()):
        exact = np.asarray(band.convert("F").resize(size, Image.Resampling.LANCZOS, box=window))
        apart = np.abs(found[..., channel] - exact)
        assert apart.max() <= 1.25  # each of two passes rounds
        assert (apart**2).mean() ** 0.5 <= 0.42


@pytest.mark.parametrize("extensions", list(cykooz_resizer.CpuExtensions), ids=lambda extensions: extensions.name)
def test_bits_are_the_same_without_vector_instructions(
    extensions: cykooz_resizer.CpuExtensions, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [scaled(picture(mode), window, size).tobytes() for mode, window, size in CASES]

    class Without(cykooz_resizer.Resizer):
        def __init__(self) -> None:
            super().__init__()
            self.cpu_extensions = extensions  # what a processor lacks is not used

    monkeypatch.setattr(scaling, "Resizer", Without)
    assert [scaled(picture(mode), window, size).tobytes() for mode, window, size in CASES] == expected


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 2), (64, 65)])
def test_a_flat_picture_is_flat_in_any_window(mode: str, size: tuple[int, int]) -> None:
    colour = (17, 90, 201, 254)[: len(mode)]
    image = Image.new(mode, size, colour if len(colour) > 1 else colour[0])
    width, height = size
    edges = (
        (0.0, 0.0, width, height),
        (width * 0.99, 0.3, width, height),
        (0.0, height / 3, width / 7, height / 3 + 0.01),
    )
    for window in edges:
        for wanted in ((1, 1), (5, 3), (64, 1), (130, 70)):
            assert (np.asarray(scaled(image, window, wanted)).reshape(-1, len(mode)) == colour).all()


def test_threads_scale_one_picture() -> None:
    image = picture("RGB")
    sizes = [(60 + number % 9, 50 + number % 7) for number in range(64)]
    expected = [scaled(image, (1.5, 0, 299, 200), size).tobytes() for size in sizes]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda size: scaled(image, (1.5, 0, 299, 200), size).tobytes(), sizes)) == expected
