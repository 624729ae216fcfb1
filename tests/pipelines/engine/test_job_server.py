"""A job server's jar is found or named; a job server is started, answers, and is gone afterwards."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from controlmill.pipelines.engine import job_server
from controlmill.pipelines.engine.job_server import JobServer, coordinates_of, find_jar, property_in_jar
from controlmill.schemas.errors import MillError

NAMES = ("beam-runners-spark-3-job-server-*.jar",)
COORDINATES = "org.apache.beam:beam-runners-spark-3-job-server:2.77.0"
SERVER = f"""#!{sys.executable} -I
import os, pathlib, sys, time
from concurrent import futures
import grpc

class Jobs(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/org.apache.beam.model.job_management.v1.JobService/GetJobs":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

pathlib.Path("said").write_text(f"{{os.getpid()}} {{os.getpgrp()}} {{' '.join(sys.argv[1:])}}")
[scratch] = [word.partition("=")[2] for word in sys.argv if word.startswith("-Djava.io.tmpdir=")]
pathlib.Path(scratch, "left").write_text("left")
artifacts = grpc.server(futures.ThreadPoolExecutor(1))  # a service beside it, which takes no jobs
artifacts.add_insecure_port("127.0.0.1:0")
artifacts.start()
time.sleep(0.5)
jobs = grpc.server(futures.ThreadPoolExecutor(1), [Jobs()])
pathlib.Path("port").write_text(str(jobs.add_insecure_port("127.0.0.1:0")))
jobs.start()
jobs.wait_for_termination()
"""


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Beam's jars."""
    folder = tmp_path / "jars"
    folder.mkdir()
    monkeypatch.setattr(job_server, "JARS", folder)
    return folder


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Java is, whose java each test writes."""
    path = tmp_path / "home/bin/java"
    path.parent.mkdir(parents=True)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return path


def write_program(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o755)


def test_the_newest_jar_that_fits_is_found(jars: Path) -> None:
    for version in ("2.9.0", "2.77.0", "2.62.0"):
        (jars / f"beam-runners-spark-3-job-server-{version}.jar").touch()
    assert find_jar("", NAMES, COORDINATES).name == "beam-runners-spark-3-job-server-2.77.0.jar"


def test_a_jar_that_is_not_there_is_named_with_where_it_goes(jars: Path) -> None:
    (jars / "beam-runners-flink-1.19-job-server-2.77.0.jar").touch()
    with pytest.raises(MillError, match="has none named") as found:
        find_jar("", NAMES, COORDINATES)
    assert f"-Dartifact={COORDINATES} -DoutputDirectory={jars}" in str(found.value)
    assert "not verified" in str(found.value)


def test_the_jar_that_is_given_is_taken(jars: Path) -> None:
    own = jars / "own.jar"
    with pytest.raises(MillError, match="no such file"):
        find_jar(str(own), NAMES, COORDINATES)
    own.touch()
    assert find_jar(str(own), NAMES, COORDINATES) == own


def test_jars_are_looked_for_where_beam_keeps_them() -> None:
    from apache_beam.utils.subprocess_server import JavaJarServer

    assert str(job_server.JARS.expanduser()) == JavaJarServer.JAR_CACHE
    assert coordinates_of("beam-runners-spark-3-job-server").split(":")[:2] == COORDINATES.split(":")[:2]


def test_a_property_is_read_from_a_jar_and_from_its_class_path(tmp_path: Path) -> None:
    inner, outer = tmp_path / "a folder" / f"{'long' * 30}.jar", tmp_path / "outer.jar"
    inner.parent.mkdir()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("spark-version-info.properties", "user=root\nversion=3.5.9\n")
    line = f"Class-Path: missing.jar {inner.as_uri()}"
    folded = "\r\n ".join([line[:70], *(line[at : at + 69] for at in range(70, len(line), 69))])
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\n{folded}\r\nMain-Class: a.B\r\n\r\n")
    for jar in (inner, outer):
        assert property_in_jar(jar, "spark-version-info.properties", "version") == "3.5.9"
    assert property_in_jar(outer, "spark-version-info.properties", "branch") == ""
    assert property_in_jar(tmp_path / "missing.jar", "spark-version-info.properties", "version") == ""


def test_a_job_server_takes_jobs_while_its_context_is_open(tmp_path: Path, java: Path) -> None:
    write_program(java, SERVER)
    with JobServer(
        tmp_path / "the.jar", ["--spark-master-url=spark://host:7077", "-Dspark.a=b"], tmp_path / "log"
    ) as server:
        pid, group, *words = (tmp_path / "said").read_text().split()
        assert server.alive()
        assert server.endpoint == f"127.0.0.1:{(tmp_path / 'port').read_text()}"
    assert int(group) == os.getpgrp()  # what ends the group of a job ends it too
    assert "-Dspark.a=b" in words[: words.index("-jar")]  # Java's own, and so before the jar
    assert words[words.index("-jar") + 1 :][:2] == [str(tmp_path / "the.jar"), "--spark-master-url=spark://host:7077"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    [scratch] = [word.partition("=")[2] for word in words if word.startswith("-Djava.io.tmpdir=")]
    assert not Path(scratch).exists()


def test_a_job_server_that_ends_is_told_with_its_last_words(tmp_path: Path, java: Path) -> None:
    write_program(java, "#!/bin/sh\necho no such class; exit 7\n")
    with (
        pytest.raises(MillError, match=r"(?s)ended at once \(exit status 7\).*log:\nno such class"),
        JobServer(tmp_path / "the.jar", [], tmp_path / "log"),
    ):
        pass


def test_a_job_server_that_does_not_answer_is_ended(tmp_path: Path, java: Path) -> None:
    write_program(java, "#!/bin/sh\necho $$ > pid\nexec sleep 60\n")
    with pytest.raises(MillError, match=r"did not start within 0\.5 s"), JobServer(tmp_path, [], tmp_path / "log", 0.5):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.usefixtures("java")
def test_without_java_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MillError, match="install Java 11 or 17"), JobServer(tmp_path, [], tmp_path / "log"):
        pass
