"""A scheduler and two workers as processes of their own: all work, and each of them may die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, default_client

from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, ingestion, planning
from controlmill.pipelines.engine.cluster_address import parse_cluster
from controlmill.pipelines.engine.dask import finish_graph
from controlmill.pipelines.engine.dask_client import check_workers, connected
from controlmill.pipelines.engine.engines import open_engine
from controlmill.pipelines.engine.messages import Engine, Waits
from controlmill.pipelines.engine.process import Resources
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import Job
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from tests.helpers import SMALL, KeptResources, command, digests
from tests.pipelines.cluster.clusters import ROOT, Cluster, start
from tests.pipelines.cluster.meeting import MEETING, present
from tests.processes import free_port, wait_until

SHARD = 2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers; XDG_STATE_HOME of this process is where `up` notes them."""
    folder, port = tmp_path_factory.mktemp("cluster"), free_port()
    (folder / "meeting").mkdir()
    address = parse_cluster(f"127.0.0.1:{port}")
    words = ("up", "--listen", str(address), "--workers", "2")
    process = start(*words, state=folder / "state", meeting=folder / "meeting")
    assert process.stderr
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(folder / "state"))
        assert f"listens at {address}, with 2 workers" in process.stderr.readline().decode()
        yield Cluster(process, address, folder / "meeting")
        members = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()  # its processes end with it, however it ends
        _, alive = psutil.wait_procs(members, timeout=20)
        for member in alive:
            member.kill()
        assert not alive


@pytest.fixture(scope="module")
def ingested(cluster: Cluster, photos: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of the corpus, made on the cluster; not to be changed."""
    made = tmp_path_factory.mktemp("ingested") / "dataset"
    with Resources(cluster.engine, threads=1) as resources:
        ingestion.ingest(str(photos), str(made), SMALL, resources, SHARD)
    return made


@pytest.fixture(scope="module")
def undisturbed(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the whole dataset, made without a cluster."""
    made = shutil.copytree(ingested, tmp_path_factory.mktemp("undisturbed") / "dataset")
    annotate(made, None)
    return digests(made)


def annotate(dataset: Path, engine: Engine | None) -> Dataset:
    plan = planning.plan_conditions([MEETING], planning.everywhere(Placement()), None)
    with Resources(engine, threads=1) if engine else KeptResources(threads=1) as resources:
        return annotation.annotate(str(dataset), plan, resources)


def begin(dataset: Path, cluster: Cluster) -> Future[Dataset]:
    """A job in another thread that is held up in the middle of a shard of each worker."""
    for mark in cluster.meeting.iterdir():
        mark.unlink()
    (cluster.meeting / "closed").touch()
    job = ThreadPoolExecutor(1).submit(annotate, dataset, cluster.engine)
    try:
        wait_until(lambda: len(present(cluster.meeting)) == 2 or job.done())
    except BaseException:
        end_meeting(cluster)
        raise
    return job


def end_meeting(cluster: Cluster) -> None:
    """The workers go on."""
    (cluster.meeting / "closed").unlink(missing_ok=True)


def test_workers_may_join_and_die_in_mid_job_and_it_ends_in_the_same_bytes(
    cluster: Cluster, ingested: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    made = shutil.copytree(ingested, tmp_path / "dataset")
    job = begin(made, cluster)
    try:
        workers = present(cluster.meeting)
        assert workers == {member.pid for member in cluster.members()[1:]}, "each worker has a shard"
        joining = start(
            *("join", str(cluster.address), "--workers", "1"), state=tmp_path / "state", meeting=cluster.meeting
        )
        wait_until(lambda: len(present(cluster.meeting)) == 3 or job.done())
        os.kill(min(workers), signal.SIGKILL)
    finally:
        end_meeting(cluster)
    job.result(120)
    assert digests(made) == undisturbed
    joining.terminate()
    said = joining.communicate(timeout=60)[1].decode()
    assert f"1 worker joined the cluster at {cluster.address}" in said
    assert joining.returncode == 0
    wait_until(lambda: cluster.workers() == 2)


def test_a_long_job_is_sent_in_parts(
    cluster: Cluster, ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlmill.pipelines.engine.dask.SHARDS_AT_ONCE", 2)
    made = Dataset.open(shutil.copytree(ingested, tmp_path / "dataset"))
    (stage,) = planning.plan_conditions([MEETING], planning.everywhere(Placement()), None)
    run = Run.start(made.storage)
    with open_engine(cluster.engine) as graphs:
        graphs.run(Job(made.storage, run.id, stage, stage.outputs(), 1), range(made.shards))
    assert made.shards > 5
    assert made.committed("cartoon") == set(range(made.shards))


def test_a_graph_is_waited_for_by_its_own_client_while_there_is_a_newer_one(cluster: Cluster) -> None:
    waiting: list[Client] = []
    with Client(cluster.address.dask_address) as own, Client(cluster.address.dask_address):
        graph = SimpleNamespace(client=own, futures=[], wait_until_finish=lambda: waiting.append(default_client()))
        assert finish_graph(graph)
    assert waiting == [own]


def test_a_lost_scheduler_is_told_and_the_job_run_again_ends_in_the_same_bytes(
    cluster: Cluster, ingested: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    made = shutil.copytree(ingested, tmp_path / "dataset")
    job = begin(made, cluster)
    cluster.members()[0].kill()
    with pytest.raises(MillError, match=f"the Dask scheduler at {cluster.address} was lost while the job ran"):
        job.result(120)
    end_meeting(cluster)
    wait_until(lambda: cluster.workers() == 2)
    annotate(made, cluster.engine)
    assert digests(made) == undisturbed


def test_a_worker_of_another_version_is_refused(cluster: Cluster, ingested: Path, tmp_path: Path) -> None:
    other = tmp_path / "packages/cloudpickle-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: cloudpickle\nVersion: 0.1\n")
    path = f"{other.parent}{os.pathsep}{ROOT}"
    joining = start("join", str(cluster.address), "--workers", "1", state=tmp_path / "state", path=path)
    said = joining.communicate(timeout=60)[1].decode()
    assert joining.returncode == 1
    assert f"the scheduler at {cluster.address} has not what this machine has" in said
    assert "cloudpickle: 0.1, now " in said
    worker = [sys.executable, "-m", "dask", "worker", cluster.address.dask_address, "--no-nanny", "--no-dashboard"]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(worker, env=environment, stderr=subprocess.DEVNULL, cwd=tmp_path) as of_ones_own:
        try:
            wait_until(lambda: cluster.workers() == 3)
            checked = command("cluster", "check")
            assert checked.returncode == 1
            assert "127.0.0.1 (1 worker): cloudpickle: 3" in checked.stdout
            with pytest.raises(MillError, match=r"(?s)workers of the cluster.*1 worker.*cloudpickle.*now 0\.1"):
                annotate(shutil.copytree(ingested, tmp_path / "dataset"), cluster.engine)
        finally:
            of_ones_own.kill()
    wait_until(lambda: cluster.workers() == 2)


def test_workers_that_see_another_folder_are_refused(cluster: Cluster, ingested: Path) -> None:
    with (
        connected(cluster.address, Waits()) as client,
        pytest.raises(MillError, match=r"(?s)2 workers.*nothing there, or another folder.*the same folder"),
    ):
        check_workers(client, cluster.address, open_storage(str(ingested)), "0123456789ab", Waits())


def test_a_port_that_is_taken_is_one_message(cluster: Cluster) -> None:
    done = command("cluster", "up", "--listen", str(cluster.address))
    assert done.returncode == 1
    assert f"--listen {cluster.address}: this machine cannot listen there" in done.stderr


def test_ctrl_c_before_a_cluster_is_in_the_background_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__PRELOAD", '["tests.pipelines.cluster.never_ready"]')
    command = start("up", "--listen", f"127.0.0.1:{free_port()}", "--workers", "0", "--detach", state=tmp_path)
    started = psutil.Process(command.pid)
    wait_until(lambda: len(started.children(recursive=True)) == 2)  # the one in the background, and its scheduler
    children = started.children(recursive=True)
    command.send_signal(signal.SIGINT)
    said = command.communicate(timeout=60)[1].decode()
    assert command.returncode == 130, said
    assert said.splitlines() == ["ended", "controlmill: stopped; nothing is left running"]
    assert not [child for child in children if child.is_running()]


def test_a_cluster_without_workers_is_one_message(tmp_path: Path, ingested: Path) -> None:
    import distributed

    with distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as empty:
        address = parse_cluster(empty.scheduler_address)
        with connected(address, Waits()) as client, pytest.raises(MillError, match="has no workers: start some with"):
            check_workers(client, address, open_storage(str(ingested)), "0123456789ab", Waits(first_shard=0.1))


def test_check_looks_with_every_worker_and_leaves_nothing(cluster: Cluster, photos: Path, ingested: Path) -> None:
    before = sorted(ingested.rglob("*"))
    done = command("cluster", "check", str(ingested), str(photos))
    assert done.returncode == 0, done.stdout
    assert "127.0.0.1 (" in done.stdout
    assert f"every worker of {cluster.address} can do it" in done.stdout
    assert sorted(ingested.rglob("*")) == before


def test_down_ends_all_and_leaves_nothing(cluster: Cluster) -> None:
    """The last of this file."""
    members = cluster.members()
    folders = [member.environ()["TMPDIR"] for member in members]
    done = command("cluster", "down")
    assert done.returncode == 0
    assert f"ended: the scheduler at {cluster.address} and 2 workers" in done.stderr
    assert not [member for member in members if member.is_running()]
    assert not [folder for folder in folders if Path(folder).parent.exists()]
    assert "was started or joined on this machine" in command("cluster", "down").stderr
