"""A process of a Dask cluster: its scheduler, or one of its workers. It ends with the supervisor that started it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from controlmill.schemas.errors import MillError, error_text

from ..engine.cluster_address import parse_cluster
from ..engine.dask import DASK_SETTINGS
from ..engine.dask_client import check_scheduler, connected
from ..engine.imports import import_beam
from ..engine.messages import Waits

OWN_PAGES = "127.0.0.1:0"  # each process of Dask serves pages about itself: to this machine only
REFUSED = 3


@dataclass(frozen=True)
class Member:
    """What a process is told in its command line.

    Args:
        role: what it is.
        scheduler: the scheduler's address, as ``--cluster`` takes it.
        host: the address of this machine where it listens.
        folder: for its temporary files; removed with it.
        threads: shards that a worker does at a time.
    """

    role: Literal["scheduler", "worker"]
    scheduler: str
    host: str
    folder: str
    threads: int = 1

    def text(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def main() -> None:
    """Be a scheduler or a worker. One line of JSON on standard output says ``ready``, or ``refused`` and why."""
    answers = os.dup(1)
    os.dup2(2, 1)
    member = Member(**json.loads(sys.argv[2]))
    threading.Thread(target=_end_with_supervisor, args=(member.folder,), daemon=True).start()
    import dask

    def say(**what: Any) -> None:
        os.write(answers, json.dumps(what).encode() + b"\n")

    status = 0
    try:
        with dask.config.set(DASK_SETTINGS):
            if member.role == "worker":
                _check(member)
                import_beam()
            asyncio.run((_scheduler if member.role == "scheduler" else _worker)(member, say))
    except MillError as error:
        say(refused=str(error))
        status = REFUSED
    except (OSError, ValueError, TypeError) as error:
        say(refused=f"the {member.role} cannot be started: {error_text(error)}")
        status = REFUSED
    sys.stderr.flush()
    os._exit(status)  # tasks are threads, which would be waited for


def _end_with_supervisor(folder: str) -> None:
    """Its end of the pipe closes when the supervisor ends, in whichever way."""
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others are still in it
        os.rmdir(os.path.dirname(folder))
    os._exit(0)


def _check(member: Member) -> None:
    address = parse_cluster(member.scheduler)
    with connected(address, Waits()) as client:
        check_scheduler(client, address)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _scheduler(member: Member, say: Any) -> None:
    import distributed

    address = parse_cluster(member.scheduler)
    async with distributed.Scheduler(
        host=_bracketed(member.host),
        port=address.port,
        protocol="tls" if address.tls else "tcp",
        dashboard=False,
        dashboard_address=OWN_PAGES,
    ) as scheduler:
        say(ready=scheduler.address)
        await scheduler.finished()


async def _worker(member: Member, say: Any) -> None:
    import distributed

    async with distributed.Worker(
        parse_cluster(member.scheduler).dask_address,
        host=_bracketed(member.host),
        nthreads=member.threads,
        memory_limit=0,
        local_directory=member.folder,
        dashboard_address=OWN_PAGES,
    ) as worker:
        say(ready=worker.address)
        await worker.finished()
