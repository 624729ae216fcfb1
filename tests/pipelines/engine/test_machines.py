"""Devices, number formats and batches are settled on the machines that do the work."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed import LocalCluster

from controlmill.annotators.plan import forward_groups
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import batching, networks
from controlmill.pipelines.engine import machines
from controlmill.pipelines.engine.cluster_address import ClusterAddress, parse_cluster
from controlmill.pipelines.engine.machines import HERE, Hardware, Machines, common, machines_of
from controlmill.pipelines.engine.messages import Engine, Waits
from controlmill.pipelines.networks import Placements
from controlmill.pipelines.options import NetworkOptions
from controlmill.schemas.annotator_records import PlacementRecord
from controlmill.schemas.errors import MillError
from tests.helpers import FRAGILE

ADDRESS = ClusterAddress("dask", "A", 8786)
A100 = Hardware("cuda", "bf16", "NVIDIA A100")


def test_workers_that_have_the_same_decide() -> None:
    gone = OSError("a worker that has just left")
    assert common({"tcp://B:1": A100, "tcp://B:2": A100, "tcp://C:1": gone}, ADDRESS) == ("cuda", "bf16")


@pytest.mark.parametrize(
    ("other", "what", "said"),
    [
        (Hardware("cuda", "bf16", "NVIDIA H100"), "differ in what they have for networks", "NVIDIA H100, bf16"),
        (Hardware("cpu", "fp32", "cpu"), "differ in what they have for networks", "cpu, fp32"),
        (Hardware(fault="--device cuda: this machine has 0 CUDA devices"), "cannot all run networks", "has 0 CUDA"),
        (ImportError("no module"), "cannot all run networks", "cannot be asked: ImportError: no module"),
    ],
)
def test_workers_that_differ_are_named_before_there_is_a_job(
    other: Hardware | BaseException, what: str, said: str
) -> None:
    with pytest.raises(MillError) as raised:
        common({"tcp://B:1": A100, "tcp://B:2": A100, "tcp://C:1": other}, ADDRESS)
    text = str(raised.value)
    assert f"the workers of the cluster at A:8786 {what}:" in text
    assert "B (2 workers): NVIDIA A100, bf16" in text
    assert "C (1 worker): " in text
    assert said in text
    assert "--device and --dtype" in text


def test_networks_that_cannot_be_used_on_a_worker_are_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> str:
        raise OSError("libcublas.so.12: cannot open shared object file")

    monkeypatch.setattr(machines, "resolve_device", broken)
    with pytest.raises(MillError, match=r"cannot all run networks:\n  B .*libcublas\.so\.12: cannot open"):
        common({"tcp://B:1": machines.hardware("auto", "auto")}, ADDRESS)


def test_workers_that_have_all_left_are_no_workers() -> None:
    with pytest.raises(MillError, match="the workers of the cluster at A:8786 have gone"):
        common({"tcp://B:1": OSError("closed")}, ADDRESS)


def test_where_no_worker_has_the_device_that_is_said() -> None:
    lacking = Hardware(fault="this machine has 0 CUDA devices")
    with pytest.raises(MillError, match="this machine has 0 CUDA devices"):
        common({"tcp://B:1": lacking, "tcp://B:2": lacking}, ADDRESS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machines]:
    with LocalCluster(  # in threads of this process
        n_workers=2, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as local:
        yield machines_of(Engine(cluster=parse_cluster(local.scheduler_address), waits=Waits(first_shard=5)))


def test_workers_of_a_cluster_are_asked(cluster: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.settle("auto", "auto") == HERE.settle("auto", "auto")
    assert cluster.settle("cpu", "fp16") == ("cpu", "fp16")
    assert cluster.ask(partial(operator.add, 20, 22), "") == 42
    with pytest.raises(MillError, match=r"the cluster at 127\.0\.0\.1:\d+ failed: ZeroDivisionError"):
        cluster.ask(partial(operator.truediv, 1, 0), "")
    with pytest.raises(MillError, match=r"127\.0\.0\.1 \(2 workers\): .*--device cuda:99: this machine has"):
        cluster.settle("cuda:99", "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    assert cluster.settle("cuda", "fp16") == ("cuda", "fp16")


def test_what_an_answer_is_waited_for_is_said_once(
    cluster: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.ask(partial(time.sleep, 0.5), "--batch-size")
    assert "waiting" not in capsys.readouterr().err
    monkeypatch.setattr(machines, "ASK_SECONDS", 0.1)
    cluster.ask(partial(time.sleep, 0.5), "--batch-size")
    said = capsys.readouterr().err
    assert said.count("waiting for the first free worker of the cluster at 127.0.0.1:") == 1
    assert "which finds out --batch-size" in said


def test_what_is_not_known_of_flinks_workers_is_to_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = machines_of(Engine(cluster=parse_cluster("flink://A:8081")))
    with pytest.raises(MillError, match=r"A:8081 .* say --device cpu \(or cuda\) and --dtype fp32 \(or bf16\)$"):
        machines.settle("auto", "auto")
    assert machines.settle("cuda", "bf16") == ("cuda", "bf16")
    groups = forward_groups([FRAGILE])
    options = NetworkOptions(device="cuda", dtype="bf16")
    with pytest.raises(MillError, match=r"say --batch-size$"):
        Placements(options, 64, str(tmp_path), machines=machines)(groups, {})
    begun = {"halves": PlacementRecord(device="cuda", dtype="fp16", batch_size=4, threads=1)}
    monkeypatch.setattr(networks, "stored_placements", lambda *_: begun)  # what a table was begun with, it goes on with
    places = Placements(NetworkOptions(device="cuda"), 64, str(tmp_path), machines=machines)(groups, {})
    assert places == {"halves": Placement("cuda", "fp16", 4)}


def test_the_batch_is_measured_where_the_work_is_done(tmp_path: Path) -> None:
    class Elsewhere(Machines):
        def settle(self, device: str, dtype: str) -> tuple[str, str]:
            return "cuda", "bf16"

        def ask(self, question: Any, unless: str) -> Any:
            assert question.func is batching.best_batch
            assert question.args[2:] == (Placement("cuda", "bf16"), 64)
            return 32

    places = Placements(NetworkOptions(), 64, str(tmp_path), machines=Elsewhere())(forward_groups([FRAGILE]), {})
    assert places == {"halves": Placement("cuda", "bf16", 32)}
