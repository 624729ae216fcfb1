"""Versions that all machines of a cluster must share."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from controlmill import __version__
from controlmill.schemas.fingerprint import differences, package_versions

# What carries work from one machine to another. What decides the bytes of a table is in its provenance, which each
# worker compares for itself.
CARRIERS = ("apache-beam", "dask", "distributed", "cloudpickle", "numpy", "pyarrow")


def versions() -> dict[str, str]:
    """Of this process: Python without its last number, ControlMill, and the packages that carry work."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "controlmill": __version__, **package_versions(*CARRIERS)}


def version_faults(theirs: Mapping[str, str], ours: Mapping[str, str] | None = None) -> list[str]:
    """What another process has in other versions than this one, in lines."""
    return differences(versions() if ours is None else ours, theirs)
