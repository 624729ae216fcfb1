"""A network with the weights that a job found for it: loaded, and described for a table's provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import package_versions, sha256_file

from .base import Annotator, Network
from .runtime.placement import Placement
from .runtime.weights import Found


def provenance(annotator: Annotator, weights: Mapping[str, Found], place: Placement) -> dict[str, Any]:
    """Everything that decides a map beside its image; what two runs must share to be one table."""
    described = annotator.provenance()
    network = annotator.network
    if network is None:
        return described
    return {
        **described,
        "packages": {**described["packages"], **package_versions(*network.packages)},
        "network": network_record(network, weights),
        "placement": place.provenance(),
    }


def network_record(network: type[Network], weights: Mapping[str, Found]) -> dict[str, Any]:
    """A network and its weights, as provenance says them."""
    files = [
        {key: value for key, value in asdict(weights[file.name]).items() if key != "path"} for file in network.weights
    ]
    return {"name": network.name, "version": network.version, "weights": files}


def load_network(network: type[Network], weights: Mapping[str, Found], place: Placement) -> Network:
    """A loaded network. Its weights must be the ones that the job started with.

    Raises:
        MillError: a file changed, or is not on this machine.
    """
    files = {}
    for file in network.weights:
        found = weights[file.name]
        path = Path(found.path)
        if not path.is_file():
            raise MillError(f"the weights {path} are not on this machine; bring them to every worker")
        if sha256_file(path) != found.sha256:
            raise MillError(f"the weights {path} changed since the job started")
        files[file.name] = path
    return network(files, place)
