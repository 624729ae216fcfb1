"""What can be asked of a Dask cluster before work is given to it."""

from __future__ import annotations

import logging
import queue
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.terminal.printing import counted

from .cluster_address import ClusterAddress
from .messages import Waits
from .reach import CLUSTERS, check_reachable
from .run_folder import unseen
from .versions import version_faults, versions

if TYPE_CHECKING:
    from distributed import Client

GRACE = 1.0  # seconds that a client has beyond the time that it gives itself
MOST_NAMED = 5  # workers in a message
SAME_VERSIONS = "All machines of a cluster need the same versions."


def check_certificates(address: ClusterAddress, roles: Sequence[str] = ("client",)) -> None:
    """Make sure that Dask is configured with the files that an address with TLS needs.

    Args:
        address: of the scheduler.
        roles: what this machine is to be: ``scheduler``, ``worker``, ``client``.

    Raises:
        MillError: one is not set, or not there.
    """
    if not address.tls:
        return
    import dask.config

    names = ["ca-file", *(f"{role}.{part}" for role in roles for part in ("cert", "key"))]
    for name in names:
        file = dask.config.get(f"distributed.comm.tls.{name}", None)
        if not file or not Path(file).is_file():
            fault = f"names no file: {file}" if file else "is not set"
            raise MillError(
                f"{address} needs certificates: Dask's setting distributed.comm.tls.{name} {fault}. Files for "
                f"{', '.join(names)} are named in a YAML file in ~/.config/dask, or the one that the variable "
                "DASK_CONFIG names"
            )


@contextmanager
def connected(address: ClusterAddress, waits: Waits) -> Iterator[Client]:
    """A client of a scheduler.

    Raises:
        MillError: none answers there, or there are no certificates for it.
    """
    check_certificates(address)
    check_reachable(address.host, address.port, CLUSTERS[address.kind], waits.reach)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is raised, or seen in the end
    try:
        client = _client(address, waits.reach)
    except Exception as error:  # whatever Dask makes of bytes that are not its own
        other = "without TLS (HOST:PORT)" if address.tls else "with TLS (tls://HOST:PORT)"
        raise MillError(
            f"what listens at {address} does not answer as a Dask scheduler ({error_text(error)}): look at the port, "
            f"or is it one {other}?"
        ) from error
    try:
        yield client
    finally:
        client.close()


def _client(address: ClusterAddress, seconds: float) -> Client:
    """A client that has connected. Dask's own limit of time does not hold where what listens never says a word."""
    import distributed

    made: queue.SimpleQueue[Client | Exception] = queue.SimpleQueue()

    def connect() -> None:
        try:
            made.put(distributed.Client(address.dask_address, timeout=seconds, set_as_default=False))
        except Exception as error:
            made.put(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other versions, of which more is told
        threading.Thread(target=connect, daemon=True).start()
        try:
            client = made.get(timeout=seconds + GRACE)
        except queue.Empty:
            raise TimeoutError(f"no word within {seconds + GRACE:g} s") from None
    if isinstance(client, Exception):
        raise client
    return client


def known_workers(client: Client) -> dict[str, Any]:
    """What a scheduler knows of each of its workers, by their addresses.

    It is asked itself: ``Client.scheduler_info`` tells of five workers, unless it is told otherwise, in some versions.
    """
    assert client.scheduler
    found: dict[str, Any] = client.sync(client.scheduler.identity)["workers"]
    return found


def check_scheduler(client: Client, address: ClusterAddress) -> None:
    """Compare the versions of a scheduler with ours: it unpacks the graphs that it is sent.

    Raises:
        MillError: they differ, or it has no ControlMill.
    """
    try:
        faults = version_faults(client.run_on_scheduler(versions))
    except ImportError as error:
        faults = [f"it has no {error.name}"]
    except Exception as error:
        faults = [error_text(error)]
    if faults:
        raise MillError(
            _lines(f"the scheduler at {address} has not what this machine has:", faults)
            + f"\n{SAME_VERSIONS} `controlmill cluster up` starts one with those of its machine"
        )


@contextmanager
def ready_workers(address: ClusterAddress, waits: Waits) -> Iterator[Client]:
    """A client of a scheduler, whose workers can be asked to run something of ours.

    Raises:
        MillError: no scheduler answers, or it has no workers, or some in other versions.
    """
    with connected(address, waits) as client:
        check_scheduler(client, address)
        check_versions_of_workers(client, address, waits)
        yield client


def check_versions_of_workers(client: Client, address: ClusterAddress, waits: Waits) -> None:
    """Make sure that a cluster has workers, and that they have our versions.

    Raises:
        MillError: not so.
    """
    try:
        client.wait_for_workers(1, timeout=waits.first_shard)
    except TimeoutError as error:
        raise MillError(
            f"the cluster at {address} has no workers: start some with `controlmill cluster join {address}`"
        ) from error
    others = of_workers(client.run(versions, on_error="return"), version_faults)
    if others:
        raise MillError(
            _lines(f"workers of the cluster at {address} have other versions than this machine:", others)
            + f"\n{SAME_VERSIONS}"
        )


def check_workers(client: Client, address: ClusterAddress, storage: Storage, run: str, waits: Waits) -> None:
    """Make sure that a cluster has workers, that they have our versions, and that they see the dataset that we see.

    Raises:
        MillError: not so.
    """
    check_versions_of_workers(client, address, waits)
    blind = of_workers(client.run(unseen, storage, run, on_error="return"), lambda found: [found] if found else [])
    if blind:
        raise MillError(
            _lines(f"workers of the cluster at {address} do not see the dataset {storage.address}:", blind)
            + "\nIt must be the same folder under the same path on all machines: a shared disk, or an object store"
        )


def of_workers(answers: Mapping[str, Any], faults: Any) -> list[str]:
    """What is wrong with which workers, one line a host and a fault; a worker that has just gone is left out."""
    found: dict[tuple[str, str], int] = {}
    for worker, answer in answers.items():
        if isinstance(answer, OSError):  # the connection
            continue
        host = worker.partition("://")[2].rpartition(":")[0]
        failed = isinstance(answer, BaseException)
        for fault in [f"cannot be asked: {error_text(answer)}"] if failed else faults(answer):
            found[host, fault] = found.get((host, fault), 0) + 1
    return [f"{host} ({counted(count, 'worker')}): {fault}" for (host, fault), count in sorted(found.items())]


def _lines(head: str, lines: list[str]) -> str:
    more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return "".join([head, *(f"\n  {line}" for line in [*lines[:MOST_NAMED], *more])])
