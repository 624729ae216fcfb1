#!/usr/bin/env bash
# apache-beam 2.77.0
#
# What: where nothing listens at the job_endpoint of PortableRunner, the connection is refused at once. The runner waits
#   for the whole of job_server_timeout (300 s unless it is set) all the same, and then raises grpc.FutureTimeoutError
#   with an empty text: neither the address nor the refusal is in it, nor in what it was raised from.
# Seen: with job_server_timeout=5: FutureTimeoutError '', after no less than those 5 s (9 on a busy machine).
# Guessed: "connection refused" with the address, in milliseconds.
#
# It matters for whoever shows users the errors of runners: try the address before the pipeline is run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0
"$folder/venv/bin/python" - <<'PY'
import socket
import time

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
try:
    socket.create_connection(("127.0.0.1", port), timeout=5)
    raise SystemExit("something listens there")
except ConnectionRefusedError:
    pass


def attempt(seconds):
    words = ["--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}", "--environment_type=LOOPBACK"]
    pipeline = beam.Pipeline(options=PipelineOptions([*words, f"--job_server_timeout={seconds}"]))
    _ = pipeline | beam.Create([1])
    began = time.monotonic()
    try:
        pipeline.run()
    except Exception as error:
        return error, time.monotonic() - began
    raise SystemExit("it ran")


attempt(1)  # what is imported late is imported now
error, took = attempt(5)
print(f"{type(error).__name__} {str(error)!r} after {took:.0f} s")
assert isinstance(error, grpc.FutureTimeoutError) and str(error) == "" and took >= 5, (error, took)
assert error.__cause__ is None and error.__context__ is None
assert PipelineOptions([]).get_all_options()["job_server_timeout"] == 300
PY
