"""A network with the weights that a job found for it: loaded, and described for a table's provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from controlmill.schemas.fingerprint import package_versions

from .base import Annotator, Network
from .runtime.placement import Placement
from .runtime.weights import Found, WeightsFile, on_this_machine


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
    return {"name": network.name, "version": network.version, "weights": weights_records(network.weights, weights)}


def weights_records(files: Iterable[WeightsFile], found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Files of weights, as provenance says them."""
    return [{key: value for key, value in asdict(found[file.name]).items() if key != "path"} for file in files]


def load_network(network: type[Network], weights: Mapping[str, Found], place: Placement) -> Network:
    """A loaded network. Its weights are the ones that the job started with, wherever they lie on this machine.

    Raises:
        MillError: a file changed, or is not on this machine.
    """
    return network({file.name: on_this_machine(file, weights[file.name]) for file in network.weights}, place)
