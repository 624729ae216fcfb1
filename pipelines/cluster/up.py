"""A scheduler with workers, or workers that join a scheduler elsewhere: supervised until they are ended."""

from __future__ import annotations

import getpass
import socket
from dataclasses import replace
from pathlib import Path

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.machine import processors
from controlmill.schemas.terminal.printing import counted

from ..engine.cluster_address import ClusterAddress, parse_cluster
from ..engine.dask_client import check_certificates
from .background import Begun
from .member import Member
from .options import WorkerOptions
from .record import new_record
from .supervise import Watched, running, scratch, until_told_to_end, watch, workers_of

EVERYWHERE = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}  # noqa: S104 and a machine elsewhere (RFC 5737, RFC 3849)
LOG = "supervisor.log"


def up(listen: str, options: WorkerOptions, begun: Begun) -> None:
    """A scheduler that listens at ``listen``, and workers beside it.

    Raises:
        MillError: it cannot listen there, or a process cannot be started.
    """
    address = _dask(listen, "--listen")
    check_free(address)
    check_certificates(address, ("scheduler", "worker", "client"))
    reached = replace(address, host=own_address(address)) if address.host in EVERYWHERE else address
    with until_told_to_end(), scratch() as folder:
        _serve(address, reached, options, folder, begun)


def _serve(
    address: ClusterAddress, reached: ClusterAddress, options: WorkerOptions, folder: Path, begun: Begun
) -> None:
    count = _count(options)
    record = new_record(str(reached), True, count)
    try:
        member = Member("scheduler", str(address), address.host, str(folder / "scheduler"), options.in_flight)
        scheduler = Watched("the scheduler", member, record.folder / "scheduler.log")
        worker = replace(member, scheduler=str(reached), host=address_towards(reached))
        members = workers_of(worker, count, folder, record.folder)
        with running([scheduler]), running(members):
            begun(_started(reached, address, count), record.folder / LOG)
            watch([scheduler, *members])
    finally:
        record.forget()


def join(text: str, options: WorkerOptions, begun: Begun) -> None:
    """Workers of this machine for a scheduler that is there already.

    Raises:
        MillError: it does not answer, has other versions, or a process cannot be started.
    """
    address = _dask(text, "the scheduler")
    check_certificates(address, ("worker", "client"))
    here, count = address_towards(address), _count(options)
    if not count:
        raise MillError("--workers 0: there is nothing to join with")
    with until_told_to_end(), scratch() as folder:
        record = new_record(str(address), False, count)
        try:
            member = Member("worker", str(address), here, "", options.in_flight)
            members = workers_of(member, count, folder, record.folder)
            with running(members):
                begun([f"{counted(count, 'worker')} joined the cluster at {address}; {_ends()}"], record.folder / LOG)
                watch(members)
        finally:
            record.forget()


def _count(options: WorkerOptions) -> int:
    return processors() if options.workers is None else options.workers


def _dask(text: str, what: str) -> ClusterAddress:
    address = parse_cluster(text)
    if address.kind != "dask":
        raise MillError(f"{what} {text}: these commands are for Dask; {address.kind} is started by its own programs")
    return address


def _ends() -> str:
    return "Ctrl-C, or `controlmill cluster down` on this machine, ends them"


def _started(reached: ClusterAddress, address: ClusterAddress, count: int) -> list[str]:
    """What `up` prints."""
    alone = is_loopback(address)
    join_line = (
        "only this machine reaches it; for others: --listen with an address that they reach"
        if alone
        else f"other machines join it with   controlmill cluster join {reached}"
    )
    lines = [
        f"a Dask scheduler listens at {reached}, with {counted(count, 'worker')} of this machine; {_ends()}",
        join_line,
        f"jobs run on it with           controlmill build PHOTOS dataset/ --cluster {reached}",
    ]
    if not alone and not address.tls:
        lines.append(
            f"whoever reaches this port runs any code as {getpass.getuser()}: let only machines that you trust reach "
            "it, or listen with tls://"
        )
    return lines


def is_loopback(address: ClusterAddress) -> bool:
    """Whether only this machine reaches an address; its own name often stands for such a one."""
    found = {where[0] for *_, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)}
    return all(str(host).startswith("127.") or host == "::1" for host in found)


def check_free(address: ClusterAddress) -> None:
    """Make sure that this machine can listen at an address.

    Raises:
        MillError: it is taken, or no address of this machine.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
    except socket.gaierror as error:
        raise MillError(
            f"--listen {address}: no machine called {address.host}; give an address of this machine"
        ) from error
    except OSError as error:
        raise MillError(
            f"--listen {address}: this machine cannot listen there ({error_text(error)}): choose another port, or end "
            "what has it (`controlmill cluster down`, if it is a cluster of yours)"
        ) from error


def own_address(address: ClusterAddress) -> str:
    """The address by which others reach a scheduler that listens everywhere: that of the way out of this machine."""
    try:
        return address_towards(replace(address, host=EVERYWHERE[address.host]))
    except MillError:  # there is none
        return socket.gethostname()


def address_towards(address: ClusterAddress) -> str:
    """The address of this machine from which another is reached: there its workers listen.

    Raises:
        MillError: there is no way there.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(where)  # of a datagram: nothing is sent
            return str(probe.getsockname()[0])
    except OSError as error:
        raise MillError(f"{address} cannot be reached from this machine: {error_text(error)}") from error
