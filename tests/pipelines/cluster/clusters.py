"""A cluster of processes on this machine, as `cluster up` starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from controlmill.pipelines.engine.cluster_address import ClusterAddress
from controlmill.pipelines.engine.messages import Engine
from tests.helpers import command
from tests.pipelines.cluster.meeting import PLACE

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Cluster:
    """What `up` started, and the folder of its meetings."""

    process: subprocess.Popen[bytes]
    address: ClusterAddress
    meeting: Path

    @property
    def engine(self) -> Engine:
        return Engine(cluster=self.address)

    def members(self) -> list[psutil.Process]:
        """The scheduler, then the workers."""
        return sorted(psutil.Process(self.process.pid).children(), key=lambda member: member.create_time())

    def workers(self) -> int:
        """How many work, says `status`."""
        said = command("cluster", "status", "--cluster", str(self.address), "--json")
        return sum(host["workers"] for host in json.loads(said.stdout)["hosts"].values()) if not said.returncode else 0


def start(*words: str, state: Path, path: str = str(ROOT), meeting: Path | None = None) -> subprocess.Popen[bytes]:
    """A command about clusters, whose processes can import the tests."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state), "PYTHONPATH": path, PLACE: str(meeting or "")}
    command = [sys.executable, "-m", "controlmill", "cluster", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
