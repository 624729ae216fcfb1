#!/usr/bin/env bash
# apache-beam 2.77.0
#
# What: the worker pool for environment_type=EXTERNAL (worker_pool_main) keeps its processes by worker id alone. Ids are
#   unique within a runner, not among runners: each JVM calls its first worker "1-1". A second StartWorker("1-1") takes
#   the place of the first in the pool's records, and StopWorker("1-1"), whoever sends it, ends the second.
# Seen: two runners start "1-1" from one pool, and both workers connect. The first runner stops its worker: it is the
#   second runner's that goes, and the first's that stays.
# Guessed: a pool that listens on one port for a whole machine tells the workers of its clients apart.
#
# It matters for whoever runs two TaskManagers of Flink, or two jobs at a time, on a machine: jobs fail at random.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-beam==2.77.0
cat >"$folder/runners.py" <<'PY'
import os
import threading
from concurrent import futures

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer


class Runner(beam_fn_api_pb2_grpc.BeamFnControlServicer):
    def __init__(self):
        self.connected, self.lost, self.over = threading.Event(), threading.Event(), threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(self, self.server)
        self.url = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Control(self, responses, context):
        context.add_callback(self.lost.set)
        self.connected.set()
        self.over.wait()
        yield from ()


runners = Runner(), Runner()
address, server = BeamFnExternalWorkerPoolServicer.start(use_process=True)
pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(grpc.insecure_channel(address))
for runner in runners:
    control = endpoints_pb2.ApiServiceDescriptor(url=runner.url)
    pool.StartWorker(beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1", control_endpoint=control))
print("both connected:", all(runner.connected.wait(120) for runner in runners))
pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
print("the second has lost its worker:", runners[1].lost.wait(20))
print("the first has lost its worker:", runners[0].lost.wait(5))
for runner in runners:
    runner.over.set()
    runner.server.stop(None)
server.stop(None)
os._exit(0)
PY
said=$(PATH="$folder/venv/bin:$PATH" python "$folder/runners.py" 2>/dev/null)
echo "$said"
[ "$said" = "both connected: True
the second has lost its worker: True
the first has lost its worker: False" ]
