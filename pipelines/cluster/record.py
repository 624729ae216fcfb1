"""Which supervisors of clusters run on this machine: a file for each, in the user's folder of state."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controlmill.schemas.machine import alive, may_live, process_stamp

END_SECONDS = 20.0


def state_folder() -> Path:
    """``$XDG_STATE_HOME/controlmill/cluster``; by default in ``~/.local/state``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "controlmill" / "cluster"


@dataclass(frozen=True)
class Record:
    """A supervisor: the cluster's address as ``--cluster`` takes it, its workers here, and what tells its process."""

    cluster: str
    scheduler: bool
    workers: int
    stamp: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Of its logs; ``supervisor.json`` in it is this record."""
        return state_folder() / f"{self.stamp['host']}-{self.stamp['pid']}"

    @property
    def _file(self) -> Path:
        return self.folder / "supervisor.json"

    def write(self) -> None:
        """Keep it while the supervisor lives."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(asdict(self)), "utf-8")

    def forget(self) -> None:
        """The supervisor ends; the logs stay until another one starts."""
        self._file.unlink(missing_ok=True)

    def end(self) -> bool:
        """Have the supervisor end what it started, and then itself; whether it did."""
        deadline = time.monotonic() + END_SECONDS
        with suppress(ProcessLookupError):
            os.kill(self.stamp["pid"], signal.SIGTERM)
        while self._file.exists() and may_live(self.stamp):  # a process that nobody has waited for counts as alive
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def new_record(cluster: str, scheduler: bool, workers: int) -> Record:
    """Of this process; what dead supervisors of this machine left is removed."""
    record = Record(cluster, scheduler, workers, process_stamp())
    for folder in state_folder().glob("*-*"):
        stamp = _stamp(folder)
        host, _, pid = folder.name.rpartition("-")
        if host == record.stamp["host"] and pid.isdecimal() and not (may_live(stamp) if stamp else alive(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)
    record.write()
    return record


def supervisors() -> Iterator[Record]:
    """Those of this machine that are alive."""
    here = process_stamp()["host"]
    for folder in sorted(state_folder().glob("*-*")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            record = Record(**json.loads((folder / "supervisor.json").read_text("utf-8")))
            if record.stamp["host"] == here and may_live(record.stamp):
                yield record


def _stamp(folder: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        stamp: dict[str, Any] = json.loads((folder / "supervisor.json").read_text("utf-8"))["stamp"]
        return stamp
    return None
