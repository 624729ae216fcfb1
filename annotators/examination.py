"""What can run on this machine, as plain values: what ``doctor`` tells of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.fingerprint import package_versions
from controlmill.schemas.machine import processors

from .catalogue import VARIANTS, Choice, Variant
from .runtime.torch_device import devices
from .runtime.weights import WeightsFile, find

PACKAGES = ("torch", "opencv", "apache-beam", "pyarrow", "pillow")


def examine(folder: str | None) -> dict[str, Any]:
    """Look, and fetch nothing.

    Args:
        folder: where weight files are, as for ``--weights``.

    Returns:
        ``packages`` (name → version), ``cores``, ``devices`` (each with ``name`` and the ``dtype`` that auto picks) and
        ``conditions``: every variant with ``condition``, ``variant``, ``summary``, ``licence_gate`` (what
        ``--accept-license`` takes, or null), ``ready`` (false: weights must be fetched) and ``weights``, each with
        ``name``, ``licence``, ``origin`` and ``path`` (null where it is not here) and ``from``.
    """
    return {
        "packages": package_versions(*PACKAGES),
        "cores": processors(),
        "devices": [{"name": name, "dtype": dtype} for name, dtype in devices().items()],
        "conditions": [_variant(variant, folder) for variant in VARIANTS],
    }


def _variant(variant: Variant, folder: str | None) -> dict[str, Any]:
    network = None if variant.pattern else Choice(variant.condition, variant.name, variant.target).build().network
    return {
        "condition": variant.condition,
        "variant": variant.name,
        "summary": variant.summary,
        "licence_gate": CONDITIONS[variant.condition].licence_gate or variant.licence_gate or None,
        **weights_here(network.weights if network else (), folder),
    }


def weights_here(files: Sequence[WeightsFile], folder: str | None) -> dict[str, Any]:
    """``ready``, whether all of some files are on this machine, and ``weights``: see :func:`examine`."""
    found, missing = find(files, folder, download=False)
    here = {file.name: file for file in found}
    weights = [
        {
            "name": file.name,
            "licence": here[file.name].licence if file.name in here else file.licence,
            "origin": here[file.name].origin if file.name in here else None,
            "path": str(here[file.name].path) if file.name in here else None,
            "from": source_of(file),
        }
        for file in files
    ]
    return {"ready": not missing, "weights": weights}


def source_of(file: WeightsFile) -> str:
    """Where a file comes from, in words."""
    return f"{file.megabytes:.0f} MB from {file.url or f'{file.repo}@{file.revision[:12]}'} ({file.licence})"
