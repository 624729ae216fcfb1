"""Beam and Arrow, imported without packages that they look for and that a process of ours does not work with.

Beam imports clients of clouds and data bases where they are installed, and Arrow pandas, to know its objects when it
meets them: half of a small job's processor time.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

PANDAS = ("pandas",)
CLIENTS = (
    "apache_beam.io.gcp.bigquery",
    "boto3",
    "bson",
    "pymongo",
    "google.auth",
    "google.cloud",
    "requests",
)  # of files and tables that no graph of ours reads


class _Absent:
    """A finder for ``sys.meta_path``; an entry of None in ``sys.modules`` would be taken for a module by Cython."""

    def __init__(self, packages: Iterable[str]) -> None:
        self._packages, self._thread = frozenset(packages), threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self._packages and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is not imported in this process", name=name)


@contextmanager
def without(packages: Iterable[str]) -> Iterator[None]:
    """Packages that are not imported yet cannot be imported inside this block, as if they were not installed.

    Other threads may import them meanwhile, as the message of a job does whose dataset lies in a cloud.
    """
    absent: Any = _Absent(packages)
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


def import_arrow() -> None:
    """Arrow without pandas, for the life of this process: lists become arrays, and objects of pandas are unknown."""
    with without(PANDAS):
        import pyarrow as pa

        pa.array([])  # it looks for pandas once, with its first array


def import_beam() -> None:
    """Beam for graphs that this process, or workers of this machine, run; Arrow as by :func:`import_arrow`."""
    import_arrow()
    with without((*PANDAS, *CLIENTS)):
        importlib.import_module("apache_beam")
