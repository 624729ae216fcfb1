"""Addresses of clusters as users write them."""

from __future__ import annotations

import pytest

from controlmill.pipelines.engine.cluster_address import ClusterAddress, parse_cluster
from controlmill.schemas.errors import MillError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a.example:9000", ClusterAddress("dask", "a.example", 9000)),
        ("a", ClusterAddress("dask", "a", 8786)),
        ("tcp://10.0.0.1:8786", ClusterAddress("dask", "10.0.0.1", 8786)),
        ("tls://a", ClusterAddress("dask", "a", 8786, tls=True)),
        ("[::1]:8786", ClusterAddress("dask", "::1", 8786)),
        ("flink://a/", ClusterAddress("flink", "a", 8081)),
        ("spark://[fe80::1]", ClusterAddress("spark", "fe80::1", 7077)),
    ],
)
def test_an_address_is_read_and_written_again(text: str, address: ClusterAddress) -> None:
    assert parse_cluster(text) == address
    assert parse_cluster(str(address)) == address


@pytest.mark.parametrize("text", ["", "a:0", "a:65536", "a:port", "http://a:1", "::1", "a b", "a:1/x", "user@a:1"])
def test_what_is_no_address_is_one_message(text: str) -> None:
    with pytest.raises(MillError, match=r"a port is from|is not the address of a cluster"):
        parse_cluster(text)


def test_dask_is_told_an_address_in_its_own_way() -> None:
    assert parse_cluster("[::1]:1").dask_address == "tcp://[::1]:1"
    assert parse_cluster("tls://a:1").dask_address == "tls://a:1"
