"""Untrusted bytes to final pixels: what is cut from a picture, and how large it becomes.

What comes out is what annotators and trainers see: nothing is turned or converted again after this file.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .codecs import Box, centred, draft_factor, stored_picture
from .formats import Fit, Limits
from .pictures import open_picture

BUCKET_STEP = 64
MAX_ASPECT = 2.0  # of buckets
DECODING_BYTES = 512 * 1024 * 1024  # of a process


@dataclass(frozen=True)
class Picture:
    """A fitted picture: encoded bytes, file ending, size, size before the fit (oriented), and the box cut from that.

    ``several``: it is the first of several in its file.
    """

    data: bytes
    ending: str
    width: int
    height: int
    original_width: int
    original_height: int
    crop: Box
    several: bool = False


class Gate:
    """Lets threads decode at the same time as long as their memory stays below a bound; one alone may pass it."""

    def __init__(self, most: int):
        self.most = most
        self.held = 0
        self.free = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Wait until ``count`` bytes are free, and take them for the block."""
        with self.free:
            self.free.wait_for(lambda: not self.held or self.held + count <= self.most)
            self.held += count
        try:
            yield
        finally:
            with self.free:
                self.held -= count
                self.free.notify_all()


GATE = Gate(DECODING_BYTES)


def load_picture(
    data: bytes, limits: Limits, resolution: int, fit: Fit, white: int | None = None, lossless: bool = False
) -> Picture:
    """Decode, check, orient, convert and fit one picture. Bytes that need none of it are kept as they are.

    Raises:
        Refused: any reason of :func:`open_picture` and :func:`stored_picture`.
    """
    opened = open_picture(data, limits)
    box, size = fit_box(*opened.size, resolution, fit)
    opened.reduce(draft_factor(box, size))
    with GATE.hold(opened.memory):  # a file's own size says nothing of what it unfolds to
        stored, ending = stored_picture(opened, box, size, white, lossless)
        several = opened.several
    return Picture(stored, ending, *size, *opened.size, box, several)


def fit_box(width: int, height: int, resolution: int, fit: Fit) -> tuple[Box, tuple[int, int]]:
    """What is cut from an oriented picture, in its own pixels, and the size it is scaled to: ((x, y, w, h), (w, h)).

    ``crop``: the short side becomes ``resolution``, then a centred square. ``bucket``: the nearest aspect among sizes
    in multiples of 64 with about ``resolution``² pixels, centred. ``none``: all of it, as it is.
    """
    if fit == "none":
        return (0, 0, width, height), (width, height)
    size = (resolution, resolution) if fit == "crop" else nearest_bucket(width, height, resolution)
    return centred(width, height, size), size


def nearest_bucket(width: int, height: int, resolution: int) -> tuple[int, int]:
    """The bucket whose aspect is nearest to width : height, on a logarithmic scale."""
    aspect = math.log(width / height)
    return min(buckets(resolution), key=lambda size: (abs(math.log(size[0] / size[1]) - aspect), size))


def buckets(resolution: int) -> list[tuple[int, int]]:
    """All (width, height) in multiples of 64, at most ``resolution``² pixels, sides at most 2 : 1."""
    sizes = set()
    for side in range(BUCKET_STEP, 2 * resolution + 1, BUCKET_STEP):
        other = resolution * resolution // side // BUCKET_STEP * BUCKET_STEP
        if other and max(side / other, other / side) <= MAX_ASPECT:
            sizes |= {(side, other), (other, side)}
    return sorted(sizes)
