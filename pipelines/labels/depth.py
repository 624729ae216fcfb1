"""Depth of datasets whose files are no pictures: DIODE, Hypersim, and NYU's labelled set."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.hdf5 import open_array, read_array
from controlmill.schemas.maps.meaning import Plane, Reading
from controlmill.schemas.maps.npy import load_plane
from controlmill.schemas.maps.planes import array_plane

from ..corpora.files import open_regular
from .index import Label, LabelIndex
from .source import MapSource, Parts

HYPERSIM_FOCAL, HYPERSIM_WIDTH = 886.81, 1024  # pixels; its cameras see 60 degrees across
NYU_ARRAY = "depths"
NYU_NUMBER = re.compile(r"(\d{1,9})\D*\.\w+$")


def decode_diode(parts: Parts, reading: Reading, limits: Limits) -> Plane:
    """Metres, float (H, W, 1), and a mask (H, W), 1 where the scanner measured (Vasiljevic et al. 2019)."""
    depth, mask = (load_plane(part, limits.max_pixels) for part in parts)
    if depth.shape != mask.shape:
        raise Refused("size_mismatch", f"depth of {depth.shape} with a mask of {mask.shape}")
    return array_plane(depth, reading, mask > 0)


def decode_hypersim(parts: Parts, reading: Reading, limits: Limits) -> Plane:
    """Distances in metres to the camera's centre, as depth along its axis; NaN is none (Roberts et al. 2021)."""
    with open_array(io.BytesIO(parts[0]), "dataset") as found:
        if len(found.shape) != 2:
            raise Refused("wrong_kind", f"an array of {found.shape}; depth is (H, W)")
        return array_plane(planar_depth(read_array(found, limits.max_pixels)), reading)


def planar_depth(distance: np.ndarray) -> np.ndarray:
    """Depth along the camera's axis, float64 (H, W), from the distance to its centre; for Hypersim's camera.

    Source: github.com/apple/ml-hypersim, issue 9: z = d · f / √(x² + y² + f²), x and y from the middle of the picture.
    """
    height, width = distance.shape
    focal = HYPERSIM_FOCAL * width / HYPERSIM_WIDTH
    x = np.arange(width) - (width - 1) / 2
    y = np.arange(height)[:, None] - (height - 1) / 2
    return distance.astype(np.float64) * (focal / np.sqrt(x**2 + y**2 + focal**2))


@dataclass(frozen=True)
class NyuLabelled(MapSource):
    """``nyu_depth_v2_labeled.mat``: metres, one array of all pictures. A picture's number is in its name, from 1.

    The file holds arrays by columns: (pictures, width, height).
    """

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        return {**super().made_by(), "params": {"layout": "nyu-labelled"}}

    def open(self) -> NyuFound:
        """Look at the file."""
        try:
            with open_regular(self.place) as file, open_array(file, NYU_ARRAY) as found:
                shape = found.shape
        except OSError as error:
            raise MillError(f"{self.place} cannot be read: {error.strerror or error}") from error
        except Refused as refused:
            raise MillError(f"{self.place} is not NYU's labelled set: {refused.error}") from refused
        if len(shape) != 3 or shape[0] > 1_000_000:
            raise MillError(f"{self.place} is not NYU's labelled set: its {NYU_ARRAY} are {shape}")
        index = LabelIndex()
        for number in range(1, shape[0] + 1):
            index.add(str(number), f"{NYU_ARRAY}({number})")
        return NyuFound(index, self.place)

    def messages(self) -> Iterator[str]:
        """See :meth:`LabelSource.messages`."""
        yield f"{self.condition.table}: NYU Depth v2, the labelled pictures, by their number from 1, from {self.place}"

    def plane(self, parts: Parts, limits: Limits) -> Plane:
        """See :meth:`MapSource.plane`."""
        return array_plane(load_plane(parts[0], limits.max_pixels), self.reading)


@dataclass(frozen=True)
class NyuFound:
    """The labels of the file; see :class:`source.Labels`."""

    index: LabelIndex
    place: str

    def find(self, picture: str) -> Label:
        """The depth of a picture, by the last number in its name.

        Raises:
            MillError: a picture's number is 0: then they are counted otherwise, and each would get its neighbour's.
        """
        found = NYU_NUMBER.search(picture)
        if found is None:
            raise Refused("missing", "its name has no number")
        if int(found[1]) == 0:
            raise MillError(f"{picture}: the pictures of {self.place} are counted from 1; name them so")
        return self.index.find(str(int(found[1])), picture)

    def read(self, picture: str, max_bytes: int) -> Parts:
        """Its numbers, as a .npy file; see :meth:`source.Labels.read`."""
        number = self.find(picture).number  # they were added in their order
        with open_regular(self.place) as file, open_array(file, NYU_ARRAY) as found:
            depth: Any = read_array(found, max_bytes // found.dtype.itemsize, number - 1).T
        out = io.BytesIO()
        np.save(out, np.ascontiguousarray(depth), allow_pickle=False)
        return (out.getvalue(),)
