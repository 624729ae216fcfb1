#!/usr/bin/env bash
# apache-beam 2.77.0, dask and distributed 2026.8.0
#
# What: when the Dask scheduler is lost in the middle of a job, wait_until_finish of Beam's DaskRunner returns DONE.
# Seen: 20 elements of half a second on two workers, the scheduler killed after the first: "DONE", with one file of 20
#   there, and nothing raised.
# Guessed: FAILED, or an exception, as when a task fails: the runner waits for the futures, and they were cancelled.
#
# It matters to whoever takes a pipeline's state for the state of its outputs: count them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0 "dask[bag]==2026.8.0" distributed==2026.8.0
cat >"$folder/lost.py" <<'PY'
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def touch(number, folder):
    time.sleep(0.5)
    open(os.path.join(folder, str(number)), "w").close()


def start(*words):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "dask", *words, "--no-dashboard"], **quiet)


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = tempfile.mkdtemp(dir=os.path.dirname(__file__))
    address = f"tcp://127.0.0.1:{port}"
    processes = [start("scheduler", "--host", "127.0.0.1", "--port", port)]
    processes += [start("worker", address, "--nthreads", "1", "--no-nanny", "--local-directory", done + "-w") for _ in "ab"]
    words = [f"--dask_client_address={address}", "--dask_npartitions=20", "--dask_connection_timeout=60"]
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=apache_beam.runners.dask.dask_runner.DaskRunner", *words]))
    _ = pipeline | beam.Create(range(20)) | beam.Map(touch, done)
    result = pipeline.run()

    def lose():
        while not os.listdir(done):
            time.sleep(0.05)
        processes[0].kill()

    threading.Thread(target=lose, daemon=True).start()
    try:
        state = result.wait_until_finish()
    finally:
        for process in processes:
            process.kill()
    count = len(os.listdir(done))
    print("wait_until_finish:", state, "| done:", count, "of 20", flush=True)
    os._exit(0 if state == "DONE" and count < 20 else 1)
PY
"$folder/venv/bin/python" "$folder/lost.py"
