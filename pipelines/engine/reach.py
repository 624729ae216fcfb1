"""Whether the parts of a cluster can be reached: a connection is tried, and what a user should look at is said.

A connection is made straight to the address; a proxy of the environment plays no part in it.
"""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass

from controlmill.schemas.errors import MillError

from .messages import Engine

CLUSTERS = {"dask": "the Dask scheduler", "flink": "Flink's JobManager", "spark": "the Spark master"}
OPTIONS = {  # of Beam, which say where a part is
    "job_endpoint": "the job server",
    "dask_client_address": CLUSTERS["dask"],
    "flink_master": CLUSTERS["flink"],
    "spark_master_url": CLUSTERS["spark"],
}
PLACE = re.compile(r"(?:\w+://)?(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[\w.-]+)):(?P<port>\d{1,5})/?")


@dataclass(frozen=True)
class Part:
    """A part of a cluster that the machine of the console talks to."""

    what: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.what} at {f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parts_of(engine: Engine) -> list[Part]:
    """The parts of an engine that its address or Beam's options name; none of this machine's own workers."""
    if engine.cluster:
        return [Part(CLUSTERS[engine.cluster.kind], engine.cluster.host, engine.cluster.port)]
    given = dict(option.lstrip("-").partition("=")[::2] for option in engine.options)
    found = ((what, PLACE.fullmatch(given.get(name, ""))) for name, what in OPTIONS.items())
    return [Part(what, place["six"] or place["host"], int(place["port"])) for what, place in found if place]


def fault_of(part: Part, seconds: float) -> str:
    """What keeps a connection from being made within so many seconds; '' where one is made."""
    faults: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((part.host, part.port), seconds).close()
            faults.append("")
        except socket.gaierror:
            faults.append(f"no machine called {part.host} is known here: check the name")
        except TimeoutError:
            return
        except ConnectionRefusedError:
            faults.append("nothing listens there: is it running, and is this its port?")
        except (OSError, OverflowError) as error:
            faults.append(f"{getattr(error, 'strerror', None) or error}")

    thread = threading.Thread(target=connect, daemon=True)  # looking up a name has no time limit of its own
    thread.start()
    thread.join(seconds + 0.1)
    silent = f"no answer within {seconds:g} s: a firewall may drop what is sent there, or the machine is down"
    return next(iter(faults), silent)


def check_reachable(host: str, port: int, what: str, seconds: float) -> None:
    """Raise MillError where no connection to a part of a cluster can be made."""
    part = Part(what, host, port)
    fault = fault_of(part, seconds)
    if fault:
        raise MillError(f"{part} cannot be reached: {fault}")


def check_engine(engine: Engine) -> None:
    """Raise MillError where a part that an engine names cannot be reached."""
    for part in parts_of(engine):
        check_reachable(part.host, part.port, part.what, engine.waits.reach)


def gone(engine: Engine) -> str:
    """The parts of an engine that cannot be reached now, a line for each, or ''."""
    faults = {part: fault_of(part, engine.waits.reach) for part in parts_of(engine)}
    return "".join(f"\n{part} cannot be reached: {fault}" for part, fault in faults.items() if fault)
