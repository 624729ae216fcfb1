"""An address of a cluster that cannot be used is one message."""

from __future__ import annotations

import socketserver
import threading

import pytest

from controlmill.pipelines.engine.cluster_address import parse_cluster
from controlmill.pipelines.engine.dask_client import connected
from controlmill.pipelines.engine.messages import Waits
from controlmill.schemas.errors import MillError
from tests.helpers import command
from tests.processes import free_port


def test_nobody_at_an_address_is_one_message() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    for words in (("status", "--cluster", nowhere), ("join", nowhere, "--workers", "1")):
        done = command("cluster", *words)
        assert done.returncode == 1
        assert f"the Dask scheduler at {nowhere} cannot be reached: nothing listens there" in done.stderr


@pytest.mark.parametrize("words", [("status", "--cluster"), ("up", "--listen"), ("join",)])
def test_an_address_with_tls_and_no_certificates_is_one_message(words: tuple[str, ...]) -> None:
    address = f"tls://127.0.0.1:{free_port()}"
    done = command("cluster", *words, address)
    assert done.returncode == 1
    assert f"{address} needs certificates: Dask's setting distributed.comm.tls.ca-file is not set" in done.stderr


def test_a_machine_that_is_not_known_is_one_message() -> None:
    done = command("cluster", "up", "--listen", "no-such-machine.invalid:8786")
    said = "no machine called no-such-machine.invalid; give an address of this machine"
    assert (done.returncode, said in done.stderr) == (1, True)


def test_what_is_no_scheduler_is_one_message() -> None:
    class HangsUp(socketserver.BaseRequestHandler):
        pass

    with socketserver.TCPServer(("127.0.0.1", 0), HangsUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = parse_cluster(f"127.0.0.1:{server.server_address[1]}")
        with (
            pytest.raises(MillError, match=r"does not answer as a Dask scheduler.*or is it one with TLS"),
            connected(address, Waits(reach=0.3)),
        ):
            pass
        server.shutdown()


def test_what_answers_in_another_language_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask takes the first bytes of an answer for a length, and asks for as much memory."""

    def read_a_length(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 3 EiB")

    monkeypatch.setattr("distributed.Client", read_a_length)
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        address = parse_cluster(f"127.0.0.1:{server.server_address[1]}")
        with (
            pytest.raises(MillError, match="does not answer as a Dask scheduler"),
            connected(address, Waits(reach=0.3)),
        ):
            pass
