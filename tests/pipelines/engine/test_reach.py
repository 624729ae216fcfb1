"""A part of a cluster that cannot be reached is one message, in the time that was given, before anything is listed."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlmill.pipelines.engine import reach
from controlmill.pipelines.engine.cluster_address import parse_cluster
from controlmill.pipelines.engine.messages import Engine, Waits
from controlmill.pipelines.engine.process import Resources
from controlmill.pipelines.engine.reach import Part, check_engine, check_reachable, fault_of, gone, parts_of
from controlmill.schemas.errors import MillError
from tests.helpers import command


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


@contextlib.contextmanager
def dropping() -> Iterator[int]:
    """A port of which new connections get no answer, as behind a firewall that drops: its backlog is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield int(server.getsockname()[1])


def test_what_listens_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing is there
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_reachable("127.0.0.1", server.getsockname()[1], "a part", 3)
        assert not gone(Engine(cluster=parse_cluster(f"127.0.0.1:{server.getsockname()[1]}")))


def test_a_port_that_nothing_listens_on_is_told_before_the_corpus_is_looked_at(
    tmp_path: Path, closed_port: int
) -> None:
    words = ("ingest", str(tmp_path / "no photos"), str(tmp_path / "dataset"))
    done = command(*words, "--cluster", f"127.0.0.1:{closed_port}")
    assert done.returncode == 1
    assert f"the Dask scheduler at 127.0.0.1:{closed_port} cannot be reached: nothing listens there" in done.stderr
    done = command(*words, "--runner", "PortableRunner", "--beam-option", f"job_endpoint=localhost:{closed_port}")
    assert f"the job server at localhost:{closed_port} cannot be reached" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a full backlog drops on Linux")
def test_a_firewall_that_drops_is_told_in_the_time_that_was_given() -> None:
    with dropping() as port:
        began = time.monotonic()
        with pytest.raises(MillError, match=r"no answer within 0\.3 s: a firewall may drop"):
            Resources(Engine(cluster=parse_cluster(f"flink://127.0.0.1:{port}"), waits=Waits(reach=0.3)))
        assert time.monotonic() - began < 3


def test_a_name_that_is_looked_up_for_ever_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*_: object) -> socket.socket:
        time.sleep(0.5)
        return socket.socket()

    monkeypatch.setattr(reach.socket, "create_connection", slowly)
    assert "no answer within 0.05 s" in fault_of(Part("a part", "somewhere", 1), 0.05)


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(reach.socket, "create_connection", unknown)
    with pytest.raises(MillError, match="the Spark master at node-1:7077 cannot be reached: no machine called node-1"):
        check_engine(Engine(cluster=parse_cluster("spark://node-1:7077")))


def test_the_parts_that_options_of_beam_name() -> None:
    options = (
        "--job_endpoint=[::1]:8099",
        "dask_client_address=tcp://node-1:8786",
        "flink_master=[auto]",
        "spark_master_url=local[2]",
        "parallelism=2",
    )
    found = [str(part) for part in parts_of(Engine("PortableRunner", options=options))]
    assert found == ["the job server at [::1]:8099", "the Dask scheduler at node-1:8786"]
    assert parts_of(Engine(workers=2)) == parts_of(Engine()) == []
