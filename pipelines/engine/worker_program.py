"""``controlmill-worker``: the program that an engine starts on its machines, as one of Beam's SDK workers.

By the contract of Beam's environment ``PROCESS`` it is run with ``--id`` and ``--provision_endpoint``, and asks there
for all else (``beam_provision_api.proto``). No port, no pool and no container are needed.

Where it cannot work, it answers whatever it is asked to do with the reason, which the engine passes on: a process that
just ended would be started again, and nobody would read why.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import queue
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.machine import ONE_THREAD

from .imports import import_beam
from .versions import version_faults, versions

NO_PROXY = {"grpc_proxy": ""}  # what speaks to a cluster's parts speaks to them directly
VERSIONS = "CONTROLMILL_VERSIONS"  # the variable that says what the console's :func:`~.versions.versions` are
PROVISION_SECONDS = 60
log = logging.getLogger("controlmill.worker")


def environment() -> dict[str, str]:
    """Variables that an engine is to start the program with."""
    return {**ONE_THREAD, VERSIONS: json.dumps(versions())}


def check_versions(console: Mapping[str, str]) -> None:
    """Compare the console's versions with those of this machine.

    Raises:
        MillError: they differ.
    """
    lines = version_faults(versions(), console) if console else []
    if lines:
        raise MillError(
            f"the worker on {socket.gethostname()} ({sys.executable}) has other versions than the machine where the "
            f"job was started: {'; '.join(lines)}. All machines need the same"
        )


def main() -> None:
    """Work for the engine that started this process, until it closes the connection.

    What this process says is in ``controlmill-worker-PID-….log`` in the folder for temporary files; the file goes where
    the process ends in order.
    """
    parser = argparse.ArgumentParser(
        prog="controlmill-worker",
        description="A worker for Beam's environment PROCESS. Engines start it; it is of no use by itself.",
    )
    parser.add_argument("--id", required=True, help="its name, by which the engine knows it")
    parser.add_argument("--provision_endpoint", required=True, help="HOST:PORT where it learns what else it needs")
    words, _ = parser.parse_known_args()
    path = _write_log()
    signal.signal(signal.SIGTERM, lambda *_: _leave(path))  # how engines end it, also in the middle of a row
    try:
        _work(words.id.strip("'"), words.provision_endpoint)  # Prism 2.77 quotes it
    except Exception:
        log.exception("this worker failed")
        sys.stderr.flush()
        os._exit(1)
    _leave(path)


def _write_log() -> Path:
    """Have all that this process says, in whatever language, in a file."""
    file, name = tempfile.mkstemp(".log", f"controlmill-worker-{os.getpid()}-")
    os.dup2(file, 1)
    os.dup2(file, 2)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return Path(name)


def _leave(log_file: Path) -> None:
    """End at once: threads at work hold nothing that another worker could not do again."""
    log_file.unlink(missing_ok=True)
    os._exit(0)


def _work(worker: str, provision_endpoint: str) -> None:
    os.environ["WORKER_ID"] = worker  # Beam's connections send it along
    os.environ.update(NO_PROXY)
    import_beam()
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as messages
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as services
    from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler

    with grpc.insecure_channel(provision_endpoint) as channel:
        info = (
            services.ProvisionServiceStub(channel)
            .GetProvisionInfo(
                messages.GetProvisionInfoRequest(),
                metadata=[("worker_id", worker)],
                timeout=PROVISION_SECONDS,
            )
            .info
        )
    if info.logging_endpoint.url:
        logging.getLogger().addHandler(FnApiLogRecordHandler(info.logging_endpoint))
    log.info("worker %s is process %d on %s, %s", worker, os.getpid(), socket.gethostname(), versions())
    control = info.control_endpoint.url
    try:
        check_versions(json.loads(os.environ.get(VERSIONS, "{}")))
        harness = _harness(worker, control)
    except Exception as error:
        log.exception("this worker cannot work")
        why = str(error) if isinstance(error, MillError) else traceback.format_exc()
        refuse(worker, control, why)
        return
    try:
        harness.run()
    except grpc.RpcError as error:
        log.info("the engine has gone: %s", error)


def _harness(worker: str, control: str) -> Any:
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    from . import shards  # noqa: F401 what it works with: what is missing here is found before there is work

    return SdkHarness(control, worker_id=worker, data_buffer_time_limit_ms=-1)


def refuse(worker: str, control: str, why: str) -> None:
    """Answer all that the engine at ``control`` asks for with an error, until it closes the connection."""
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2 as messages
    from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
    from apache_beam.runners.worker.data_plane import GrpcClientDataChannelFactory

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ports = GrpcClientDataChannelFactory(None, worker)
    with grpc.insecure_channel(control) as channel:
        stub = services.BeamFnControlStub(channel)
        try:
            for request in stub.Control(iter(answers.get, None), metadata=[("worker_id", worker)]):
                bundle = request.process_bundle.process_bundle_descriptor_id
                for port in _data_ports(stub, worker, bundle) if bundle else ():
                    ports.create_data_channel_from_url(
                        port
                    )  # Java runners wait minutes for it before they read answers
                answers.put(messages.InstructionResponse(instruction_id=request.instruction_id, error=why))
        except grpc.RpcError:  # it has gone
            return
        finally:
            answers.put(None)


def _data_ports(control: Any, worker: str, bundle: str) -> set[str]:
    """Where a bundle's input would come from."""
    from apache_beam.portability.api import beam_fn_api_pb2 as messages
    from apache_beam.runners.worker.bundle_processor import DATA_INPUT_URN

    asked = messages.GetProcessBundleDescriptorRequest(process_bundle_descriptor_id=bundle)
    described = control.GetProcessBundleDescriptor(asked, metadata=[("worker_id", worker)])
    specs = [transform.spec for transform in described.transforms.values() if transform.spec.urn == DATA_INPUT_URN]
    return {messages.RemoteGrpcPort.FromString(spec.payload).api_service_descriptor.url for spec in specs}
