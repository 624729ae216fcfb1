"""What a Dask cluster is at, in lines."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.terminal.printing import counted

from ..engine.cluster_address import ClusterAddress, parse_cluster
from ..engine.dask_client import connected, known_workers
from ..engine.messages import Waits
from .record import Record, supervisors

GIGABYTE = 2**30
LATE = 10.0  # seconds without a sign of life, which comes each second or less often in large clusters


def address_of(text: str) -> ClusterAddress:
    """The cluster that a user names, or the one of this machine.

    Raises:
        MillError: it is no Dask cluster, or there is none, or more than one.
    """
    known = sorted({record.cluster for record in supervisors()})
    if not text and len(known) != 1:
        several = f"this machine has several ({', '.join(known)})" if known else "this machine has none"
        raise MillError(f"say which cluster: --cluster HOST:8786; {several}")
    address = parse_cluster(text or known[0])
    if address.kind != "dask":
        raise MillError(f"--cluster {address}: this is for Dask; {address.kind} has pages of its own")
    return address


def state_of(address: ClusterAddress, waits: Waits) -> dict[str, Any]:
    """``cluster``, and ``hosts``: name → ``workers``, ``threads``, ``busy``, ``bytes``, ``late``.

    Raises:
        MillError: it does not answer.
    """
    with connected(address, waits) as client:
        found, at_work = known_workers(client), client.processing()
        now = client.run_on_scheduler(time.time)  # clocks of machines differ
    hosts: dict[str, dict[str, Any]] = defaultdict(
        lambda: dict.fromkeys(("workers", "threads", "busy", "bytes", "late"), 0)
    )
    for name, worker in found.items():
        host = hosts[worker["host"]]
        host["workers"] += 1
        host["threads"] += worker["nthreads"]
        host["busy"] += bool(at_work.get(name))
        host["bytes"] += int(worker["metrics"].get("memory", 0))
        host["late"] += now - worker["last_seen"] > LATE
    return {"cluster": str(address), "hosts": dict(hosts)}


def lines_of(state: dict[str, Any]) -> Iterator[str]:
    """For people."""
    hosts = state["hosts"]
    total = sum(host["workers"] for host in hosts.values())
    yield f"{state['cluster']}: {counted(total, 'worker')} on {counted(len(hosts), 'host')}"
    for name, host in sorted(hosts.items()):
        late = f", {host['late']} of them silent" if host["late"] else ""
        yield (
            f"  {name}: {counted(host['workers'], 'worker')}, {host['busy']} busy, "
            f"room for {host['threads']} shards at a time, {host['bytes'] / GIGABYTE:.1f} GB{late}"
        )


def down(text: str) -> Iterator[str]:
    """End the supervisors of this machine, of one cluster or of all; what was ended, in lines.

    Raises:
        MillError: there is none, or one does not end.
    """
    wanted = str(parse_cluster(text)) if text else ""
    found = [record for record in supervisors() if wanted in ("", record.cluster)]
    if not found:
        raise MillError(
            f"no cluster{f' {wanted}' if wanted else ''} was started or joined on this machine, or it has ended"
        )
    for record in found:
        if not record.end():
            raise MillError(f"process {record.stamp['pid']} does not end: kill -9 {record.stamp['pid']}")
        yield _ended(record)


def _ended(record: Record) -> str:
    if record.scheduler:
        return (
            f"ended: the scheduler at {record.cluster} and {counted(record.workers, 'worker')}; "
            "machines that joined it wait for it until `controlmill cluster down` there"
        )
    return f"ended: {counted(record.workers, 'worker')} of the cluster at {record.cluster}"
