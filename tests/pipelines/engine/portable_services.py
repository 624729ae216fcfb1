"""Services of Beam's portable runner, as processes on this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.processes import free_port, kill_tree, listens, wait_until


@contextlib.contextmanager
def portable_services() -> Iterator[tuple[str, ...]]:
    """A job server and a pool of workers, which end with no job; Beam's options for them."""
    job_port, pool_port = free_port(), free_port()
    # the pool starts plain `python`
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.getcwd(),
    }
    services = [
        subprocess.Popen([sys.executable, "-m", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in (
            ("apache_beam.runners.portability.local_job_service_main", f"--job_port={job_port}"),
            ("apache_beam.runners.worker.worker_pool_main", f"--service_port={pool_port}"),
        )
    ]
    try:
        for port in (job_port, pool_port):
            wait_until(partial(listens, port))
        yield (
            f"job_endpoint=localhost:{job_port}",
            "environment_type=EXTERNAL",
            f"environment_config=localhost:{pool_port}",
        )
    finally:
        for service in services:
            kill_tree(service)
