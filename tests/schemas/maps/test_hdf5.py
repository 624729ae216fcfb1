"""HDF5 files from elsewhere: what cannot be read is refused."""

from __future__ import annotations

import io

import h5py
import pytest

from controlmill.schemas.errors import Refused
from controlmill.schemas.maps.hdf5 import open_array


def test_numbers_of_a_type_that_numpy_has_not_are_refused() -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100_000)
    with h5py.File(data := io.BytesIO(), "w") as file:
        h5py.h5d.create(file.id, b"dataset", kind, h5py.h5s.create_simple((2, 2)))
    with pytest.raises(Refused, match="a damaged HDF5 file"), open_array(data, "dataset"):
        pass
