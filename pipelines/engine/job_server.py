"""Beam's job server for a Flink or Spark cluster: a Java program that the user downloads; started for one command.

The job server takes a pipeline from Beam's Python SDK and has the cluster run it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from controlmill.schemas.errors import MillError, error_text

from .reasons import last_lines

JARS = Path("~/.apache_beam/cache/jars")  # where Beam's own runners keep theirs
START_SECONDS = 60
END_SECONDS = 5
POLL_SECONDS = 0.1
ANSWER_SECONDS = 2
LAST_LINES = 5
ENTRY_BYTES = 1 << 20
OPENED = (  # packages of the JDK that Flink, Spark and their serializers look into
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.text"),
    *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks"),
    *("sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)


def coordinates_of(artifact: str) -> str:
    """Maven coordinates of one of Beam's artifacts, of the version of the Beam that is installed."""
    return f"org.apache.beam:{artifact}:{metadata.version('apache-beam')}"


def find_jar(given: str, names: Sequence[str], coordinates: str) -> Path:
    """A job server's jar: the one that the user gave, or the newest of some names in the folder of Beam's jars.

    Args:
        given: path of ``--job-server-jar``, or "".
        names: patterns of file names that fit the cluster, the best first.
        coordinates: Maven coordinates of what fits, for the message.

    Raises:
        MillError: there is none. It says what to download, and where to.
    """
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise MillError(f"--job-server-jar {given}: no such file")
        return path.resolve()
    folder = JARS.expanduser()
    for name in names:
        found = sorted(folder.glob(name), key=_numbers)
        if found:
            return found[-1].resolve()
    raise MillError(
        f"this cluster needs a Beam job server of its version, and {folder} has none named {' or '.join(names)}. "
        f"Download it, e.g. with  mvn dependency:copy -Dartifact={coordinates} -DoutputDirectory={folder}  or give one "
        "with --job-server-jar. (The coordinates follow Beam's naming; it was not verified that they exist. A job "
        "server of an older Beam does too: 2.62 was tried.)"
    )


def _numbers(path: Path) -> list[int]:
    """What sorts file names by their version."""
    return [int(digits) for digits in re.findall(r"\d+", path.name)]


def property_in_jar(jar: Path, entry: str, name: str) -> str:
    """A property in a .properties file of a jar, or of the jars that its manifest puts on the class path; or ""."""
    for part in (jar, *_class_path(jar)):
        text = _text(part, entry)
        found = re.search(rf"^{re.escape(name)}\s*[=:]\s*(.*?)\s*$", text, re.MULTILINE)
        if found:
            return found[1]
    return ""


def _class_path(jar: Path) -> Iterator[Path]:
    """Jars that a jar's manifest names; they are relative to it, or URLs of files."""
    manifest = re.sub(r"\r?\n ", "", _text(jar, "META-INF/MANIFEST.MF"))  # long lines go on after a space
    found = re.search(r"^Class-Path:(.*)$", manifest, re.MULTILINE)
    for word in found[1].split() if found else ():
        yield jar.parent / unquote(urlparse(word).path)


def _text(jar: Path, entry: str) -> str:
    """A small text file of a jar; "" where there is none."""
    with suppress(OSError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(jar) as archive, archive.open(entry) as file:
        return file.read(ENTRY_BYTES).decode("utf-8", "replace")
    return ""


class JobServer:
    """A job server that runs while the context is open, in the process group of whoever opens it.

    It listens on ports that the system gives, on all of the machine's addresses: Beam's job servers bind to no other.
    :attr:`endpoint` is where jobs are sent to.

    Args:
        jar: what Java runs.
        words: what the command line says of the cluster: settings as Java's properties (-D…), and the program's words.
        log: a file that takes what it prints.
        seconds: how long it may take to start.
    """

    def __init__(self, jar: Path, words: Sequence[str], log: Path, seconds: float = START_SECONDS) -> None:
        self.jar = jar
        self.words = tuple(words)
        self.log = log
        self.seconds = seconds
        self.endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = Path()

    def __enter__(self) -> JobServer:
        """Start it.

        Raises:
            MillError: there is no Java, or it did not start.
        """
        self._scratch = Path(tempfile.mkdtemp(prefix="controlmill-job-server-"))
        try:
            with open(self.log, "wb") as log:
                self._process = subprocess.Popen(
                    self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
            self.endpoint = self._wait()
        except OSError as error:
            self.__exit__()
            raise MillError(
                f"a job server is a Java program, and Java cannot be started ({error_text(error)}): install Java 11 or "
                "17, and put java on the PATH or set JAVA_HOME"
            ) from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def _command(self) -> list[str]:
        home = os.environ.get("JAVA_HOME")
        return [
            str(Path(home, "bin", "java")) if home else "java",
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
            f"-Djava.io.tmpdir={self._scratch}",
            *(word for word in self.words if word.startswith("-D")),
            "-jar",
            str(self.jar),
            *(word for word in self.words if not word.startswith("-D")),
            "--job-host=127.0.0.1",
            "--job-port=0",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--artifacts-dir={self._scratch}/artifacts",
        ]

    def _wait(self) -> str:
        """Wait until one of its ports takes jobs; its address."""
        assert self._process
        until = time.monotonic() + self.seconds
        while self._process.poll() is None and time.monotonic() < until:
            for port in _listening(self._process.pid):
                if takes_jobs(f"127.0.0.1:{port}"):
                    return f"127.0.0.1:{port}"
            time.sleep(POLL_SECONDS)
        status = self._process.poll()
        what = f"did not start within {self.seconds:g} s" if status is None else f"ended at once (exit status {status})"
        raise MillError(
            f"the job server {self.jar} {what}; what it printed is in {self.log}:\n{last_lines(self.log, LAST_LINES)}"
        )

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process:
            process.terminate()  # it ends the workers that it started on this machine
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _listening(pid: int) -> list[int]:
    """Ports that a process of this machine listens on."""
    import psutil  # Dask's

    with suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("tcp")
        return [found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN]
    return []


def takes_jobs(address: str) -> bool:
    """Whether a job server's job service answers at an address; its other services do not know the question."""
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel, suppress(grpc.RpcError):
        beam_job_api_pb2_grpc.JobServiceStub(channel).GetJobs(beam_job_api_pb2.GetJobsRequest(), timeout=ANSWER_SECONDS)
        return True
    return False
