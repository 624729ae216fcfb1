"""The job's process cleans up after itself, however it or its console ends; what the machine lacks is said at once."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controlmill.pipelines import ingestion
from controlmill.pipelines.engine import process
from controlmill.pipelines.engine.faults import OutOfMemory, failure_of
from controlmill.pipelines.engine.imports import without
from controlmill.pipelines.engine.messages import ANSWER, Engine
from controlmill.pipelines.engine.process import JobProcess, Resources
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import advice_on
from controlmill.schemas import machine
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from tests.helpers import LINUX, SMALL, write_photos


def wait_for(what: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.05)
    return False


def semaphores(group: int) -> set[str]:
    """Named semaphores that processes of a group have open."""
    found: set[str] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found.update(re.findall(r"/dev/shm/(sem\.mp-\w+)", (folder / "maps").read_text()))
        except OSError:
            continue
    return found


def test_what_ends_after_its_console_has_gone_puts_its_things_away() -> None:
    started = JobProcess(Engine())
    process, folder = started.start(), started.folder
    assert process.stdin and process.stdout and folder
    process.stdout.close()
    pickle.dump(b"no job", process.stdin)
    assert wait_for((folder / ANSWER).exists)
    time.sleep(0.2)  # for what it does when nobody takes its answer
    process.stdin.close()
    process.wait(60)
    assert not folder.exists()


@LINUX
@pytest.mark.parametrize("twice", [False, True], ids=["once", "Ctrl-C twice"])
def test_workers_leave_nothing_in_shared_memory(twice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    started = JobProcess(Engine(workers=1))
    group, folder = started.start().pid, started.folder
    assert folder
    used: set[str] = set()
    assert wait_for(lambda: used.update(semaphores(group)) or len(used) >= 4)
    if twice:
        monkeypatch.setattr(process.select, "select", interrupt)
    started.end(grace=600 if twice else 0)
    assert not [name for name in used if Path("/dev/shm", name).exists()]
    assert not folder.exists()
    assert not machine.group_runs(group)


def test_the_folder_of_a_job_goes_with_a_killed_console(tmp_path: Path) -> None:
    says = (
        "from controlmill.pipelines.engine.process import *; import time\n"
        "JobProcess(Engine()).start(); print('started', flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    console = subprocess.Popen([sys.executable, "-c", says], stdout=subprocess.PIPE, env=environment)
    assert console.stdout and console.stdout.readline()
    assert list(tmp_path.iterdir())
    console.send_signal(signal.SIGKILL)
    console.wait()
    assert wait_for(lambda: not list(tmp_path.iterdir()))


STARTS_AGAIN = """
import multiprocessing, threading, time
from controlmill.pipelines.engine import child
started = threading.Event()
def keep():
    while True:  # as what looks after Dask's workers does
        worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
        worker.start()
        started.set()
        worker.join()
threading.Thread(target=keep, daemon=True).start()
started.wait()
child.main()
"""


def test_workers_that_are_started_again_while_the_process_ends_do_not_keep_it() -> None:
    words = [sys.executable, "-c", STARTS_AGAIN]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(30)
        assert wait_for(lambda: not machine.group_runs(process.pid), 10)
    finally:
        if machine.group_runs(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


STARTS_ANOTHER = """
import subprocess, sys
from apache_beam.runners.runner import PipelineRunner
class Starts(PipelineRunner):
    def run_pipeline(self, pipeline, options):
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open(sys.argv[-1] + "/pid", "w").write(str(other.pid))
        other.wait()
"""


KILLS_ITS_WORKER = """
import multiprocessing, os, time
from controlmill.pipelines.engine.engines import open_engine
from controlmill.pipelines.engine.messages import Engine
workers = open_engine(Engine(workers=1))
workers.ending()
(worker,) = multiprocessing.active_children()
worker.kill()
worker.join()
time.sleep(1)
print([child.pid for child in multiprocessing.active_children()])
os._exit(0)
"""


def test_workers_that_are_killed_at_the_end_are_not_replaced() -> None:
    ended = subprocess.run([sys.executable, "-c", KILLS_ITS_WORKER], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_what_an_engine_started_ends_with_a_killed_console_and_workers_elsewhere_are_told(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    (tmp_path / "starts_another.py").write_text(STARTS_ANOTHER.replace("sys.argv[-1]", repr(str(tmp_path))))
    photos = write_photos(tmp_path / "photos", 1)
    words = ["-m", "controlmill", "ingest", str(photos), str(tmp_path / "dataset"), "--runner", "starts_another.Starts"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}
    console = subprocess.Popen([sys.executable, *words], env=environment, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: note.exists() and note.read_text().isdecimal())
    console.send_signal(signal.SIGKILL)
    console.wait()
    assert wait_for(lambda: not machine.alive(int(note.read_text())), 20)
    assert wait_for(lambda: not list(temporary.iterdir()))
    (left,) = tmp_path.glob("dataset/_run/*")
    run = Run(open_storage(tmp_path / "dataset"), left.name)
    assert run.stopped() == "the command that this job is of has ended"  # to workers of other machines


def test_options_that_beam_refuses_are_one_message(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 1)
    engine = Engine(options=("direct_num_workers=two",))
    with Resources(engine) as resources, pytest.raises(MillError) as raised:
        ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, resources)
    said = str(raised.value)
    assert "FnApiRunner failed:\nargument --direct_num_workers: invalid int value: 'two'" in said
    log = Path(re.findall(r"All that it said: (.*)", said)[0])
    assert "usage:" in log.read_text()
    log.unlink()
    assert len(said.splitlines()) == 4


def test_a_full_shared_memory_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def Lock(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: Full())
    with pytest.raises(MillError, match=r"--workers: .*No space left on device: /dev/shm.*--shm-size"):
        Resources(Engine(workers=2))
    Resources(Engine())  # needs none


def test_a_process_that_cannot_be_started_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(process.subprocess, "Popen", refuse)
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(MillError, match=r"the job's process cannot be started .*ulimit -u"):
        JobProcess(Engine()).start()
    assert not list(tmp_path.iterdir())


def test_the_process_starts_from_a_checkout_that_is_not_installed() -> None:
    python, *words = machine.process_command("controlmill.pipelines.engine.child")
    bare = [python, "-S", "-P"]  # without site-packages
    assert subprocess.run([*bare, "-c", "import controlmill"], capture_output=True, check=False, timeout=60).returncode
    done = subprocess.run([*bare, *words], stdin=subprocess.DEVNULL, check=False, timeout=60)
    assert done.returncode == 0


def test_an_engine_that_cannot_be_loaded_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apache_beam.py").write_text("raise ImportError('half of it is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    photos = write_photos(tmp_path / "photos", 1)
    with Resources(Engine()) as resources, pytest.raises(MillError, match=r"(?s)FnApiRunner failed.*half of it is"):
        ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, resources)


def test_a_job_imports_neither_pandas_nor_clients_of_clouds() -> None:
    says = (
        "import sys; from controlmill.pipelines.engine.imports import *; import_beam(); import pyarrow as pa\n"
        "pa.array(['a']); absent = {*PANDAS, *CLIENTS}; assert absent.isdisjoint(sys.modules); import pandas"
    )
    subprocess.run([sys.executable, "-c", says], check=True, timeout=60)


def test_what_beam_is_imported_without_other_threads_may_import_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's message may bring a client of a cloud while an engine imports Beam in a thread of its own."""
    (tmp_path / "client_of_a_cloud.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with without(["client_of_a_cloud"]), ThreadPoolExecutor(1) as other:
        with pytest.raises(ModuleNotFoundError, match="client_of_a_cloud is not imported in this process"):
            importlib.import_module("client_of_a_cloud")
        assert other.submit(importlib.import_module, "client_of_a_cloud").result()


def test_advice_is_of_what_the_job_has() -> None:
    assert "--batch-size" not in advice_on(OutOfMemory("x"), networks=False)
    assert "--threads" in advice_on(OutOfMemory("x"), networks=False)
    assert "--batch-size" in advice_on(OutOfMemory("x"), networks=True)
    assert "ulimit -u" in advice_on(RuntimeError("can't start new thread"), networks=False)


def test_what_the_machine_lacks_refuses_no_row() -> None:
    with pytest.raises(RuntimeError, match="can't start new thread"):
        failure_of(RuntimeError("can't start new thread"))
    with pytest.raises(OutOfMemory):
        failure_of(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))


def test_a_pool_whose_thread_died_ends_the_process_which_would_wait_for_ever() -> None:
    says = (
        "import logging, sys, time; from controlmill.pipelines.engine import child\n"
        "logging.getLogger('concurrent.futures').addHandler(child.EndWithThread())\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "class Dies:\n"
        "    def set_running_or_notify_cancel(self): raise SystemError('error return without exception set')\n"
        "pool = ThreadPoolExecutor(1)\n"
        "pool._work_queue.put(type('Item', (), {'run': lambda self: Dies().set_running_or_notify_cancel()})())\n"
        "pool.submit(print)\n"
        "time.sleep(600)\n"
    )
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "error return without exception set" in done.stderr


def test_what_the_last_lines_mean_is_said() -> None:
    for lines, meaning in (("x.so: failed to map segment", "ulimit -v"), ("can't start new thread", "ulimit -u")):
        assert meaning in process.meaning_of(lines)
    assert process.meaning_of("another error") == ""
