"""Addresses of clusters, as a user writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from controlmill.schemas.errors import MillError

Kind = Literal["dask", "flink", "spark"]
PORTS = {"dask": 8786, "flink": 8081, "spark": 7077}
SCHEMES = {"": "dask", "tcp": "dask", "tls": "dask", **{kind: kind for kind in get_args(Kind) if kind != "dask"}}
ADDRESS = re.compile(
    r"(?:(?P<scheme>[a-z]+)://)?(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[\w.-]+))(?::(?P<port>\d+))?/?"
)
POSSIBLE = "HOST:8786 (Dask), tls://HOST:8786, flink://HOST:8081 or spark://HOST:7077; an IPv6 address in [brackets]"
LARGEST_PORT = 65535


@dataclass(frozen=True)
class ClusterAddress:
    """Where a cluster is asked to do work: Dask's scheduler, Flink's REST address, Spark's master.

    ``host`` is without the brackets of an IPv6 address; ``tls`` is for Dask.
    """

    kind: Kind
    host: str
    port: int
    tls: bool = False

    @property
    def netloc(self) -> str:
        """``HOST:PORT``, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def dask_address(self) -> str:
        """As Dask writes it."""
        return f"{'tls' if self.tls else 'tcp'}://{self.netloc}"

    def __str__(self) -> str:
        scheme = "tls" if self.tls else "" if self.kind == "dask" else self.kind
        return f"{scheme}://{self.netloc}" if scheme else self.netloc


def parse_cluster(text: str) -> ClusterAddress:
    """An address as a user writes it; without a port it is the engine's usual one.

    Raises:
        MillError: it is no such address.
    """
    found = ADDRESS.fullmatch(text.strip())
    kind = SCHEMES.get(found["scheme"] or "") if found else None
    if not found or not kind:
        raise MillError(f"{text!r} is not the address of a cluster: write {POSSIBLE}")
    port = int(found["port"] or PORTS[kind])
    if not 0 < port <= LARGEST_PORT:
        raise MillError(f"{text!r}: a port is from 1 to {LARGEST_PORT}")
    return ClusterAddress(kind, found["six"] or found["host"], port, found["scheme"] == "tls")
