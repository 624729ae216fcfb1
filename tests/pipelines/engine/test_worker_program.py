"""The program that engines start: against services as an engine has them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)

from controlmill.pipelines.engine import worker_program
from controlmill.pipelines.engine.versions import versions
from controlmill.schemas.errors import MillError
from controlmill.schemas.machine import process_command


class FakeEngine:
    """Asks one worker to do a bundle of no steps, and then closes the connection."""

    def __init__(self) -> None:
        self.url = ""
        self.input = False
        self.connected = threading.Event()
        self.workers: list[str] = []
        self.answers: queue.Queue[Any] = queue.Queue()
        self.logged: queue.Queue[str] = queue.Queue()

    def GetProvisionInfo(self, request: Any, context: Any) -> Any:
        self._note(context)
        here = endpoints_pb2.ApiServiceDescriptor(url=self.url)
        info = beam_provision_api_pb2.ProvisionInfo(control_endpoint=here, logging_endpoint=here)
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)

    def GetProcessBundleDescriptor(self, request: Any, context: Any) -> Any:
        here = beam_fn_api_pb2.RemoteGrpcPort(api_service_descriptor=endpoints_pb2.ApiServiceDescriptor(url=self.url))
        spec = beam_runner_api_pb2.FunctionSpec(urn="beam:runner:source:v1", payload=here.SerializeToString())
        steps = {"input": beam_runner_api_pb2.PTransform(spec=spec)} if self.input else {}
        return beam_fn_api_pb2.ProcessBundleDescriptor(id="bundle", transforms=steps)

    def Data(self, requests: Any, context: Any) -> Iterator[Any]:
        self._note(context)
        self.connected.set()
        yield from ()

    def Logging(self, requests: Any, context: Any) -> Iterator[Any]:
        self._note(context)
        for request in requests:
            for entry in request.log_entries:
                self.logged.put(entry.message)
        yield from ()

    def Control(self, responses: Any, context: Any) -> Iterator[Any]:
        self._note(context)
        bundle = beam_fn_api_pb2.ProcessBundleRequest(process_bundle_descriptor_id="bundle")
        yield beam_fn_api_pb2.InstructionRequest(instruction_id="1", process_bundle=bundle)
        assert not self.input or self.connected.wait(10), "as Java runners do, it waits for the way of the input"
        self.answers.put(next(iter(responses)))

    def _note(self, context: Any) -> None:
        self.workers.append(dict(context.invocation_metadata())["worker_id"])


@contextmanager
def fake_engine() -> Iterator[FakeEngine]:
    server, engine = grpc.server(futures.ThreadPoolExecutor(8)), FakeEngine()
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(engine, server)
    beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(engine, server)
    beam_fn_api_pb2_grpc.add_BeamFnDataServicer_to_server(engine, server)
    beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(engine, server)
    engine.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield engine
    finally:
        server.stop(None).wait()


def start(engine: FakeEngine, folder: Path, console: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    command = [*process_command(worker_program.__name__), "--id='job[1] 1-1'", f"--provision_endpoint={engine.url}"]
    variables = {**os.environ, "TMPDIR": str(folder), worker_program.VERSIONS: json.dumps(console)}
    variables["http_proxy"] = "http://127.0.0.1:1"  # is not asked
    return subprocess.run(command, env=variables, capture_output=True, timeout=60, check=False)


def test_a_worker_learns_where_to_work_and_ends_with_the_connection(tmp_path: Path) -> None:
    with fake_engine() as engine:
        ended = start(engine, tmp_path, versions())
        assert ended.returncode == 0, [file.read_text() for file in tmp_path.iterdir()]
        assert engine.answers.get(timeout=5).error == ""
        assert set(engine.workers) == {"job[1] 1-1"}, "as the engine gave it, without quotes around it"
        assert "worker job[1] 1-1 is process" in engine.logged.get(timeout=5)
    assert not list(tmp_path.iterdir()), "a worker that ended in order leaves no log"
    assert not ended.stderr, "what it says is in its log"


def test_a_worker_of_other_versions_says_so_to_the_engine(tmp_path: Path) -> None:
    with fake_engine() as engine:
        engine.input = True
        start(engine, tmp_path, {**versions(), "apache-beam": "2.1.0"})
        said = engine.answers.get(timeout=5).error
    assert "has other versions than the machine where the job was started: apache-beam: 2.1.0, now " in said
    assert said.count("\n") == 0


def test_a_worker_without_an_engine_leaves_its_log(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.url = "127.0.0.1:1"
    assert start(engine, tmp_path, {}).returncode == 1
    (log,) = tmp_path.iterdir()
    assert "this worker failed" in log.read_text()


def test_versions_that_are_not_stated_are_not_compared() -> None:
    worker_program.check_versions({})
    worker_program.check_versions(versions())
    with pytest.raises(MillError, match=r"Python: 2.7, now 3\."):
        worker_program.check_versions({**versions(), "Python": "2.7"})
