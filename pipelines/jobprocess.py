"""The process that runs a job's Beam graph, apart from the one that a person looks at.

It takes the job from standard input, and ends when that closes: it never outlives its console. A row that kills it
kills no terminal, and the console starts it again.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from typing import BinaryIO

from .jobs import ENGINE_FAILED
from .runners import run_graph


def _end_with(console: BinaryIO) -> None:
    console.read()
    os._exit(1)


def main() -> None:
    """Run one job."""
    job, shards, engine = pickle.load(sys.stdin.buffer)  # noqa: S301 from our own console
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        run_graph(job, shards, engine)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(ENGINE_FAILED)
    os._exit(0)  # engines leave threads behind that have nothing left to do


if __name__ == "__main__":
    main()
