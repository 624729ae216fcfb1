"""Files of repositories of models on the hub: in its cache on this machine, else fetched."""

from __future__ import annotations

import errno
import functools
import re
import time
from pathlib import Path, PurePosixPath

from controlmill.schemas.errors import error_text

TIMEOUT_SECONDS = 10
AGAIN_SECONDS = 300  # for which it is known whether the hub answers
COMMIT = re.compile("[0-9a-f]{40}")
_COMMITS: dict[tuple[str, str], str] = {}  # of branches, as this process met them


class Unavailable(OSError):
    """The hub did not give a file; the text says why."""


def file_of(repo: str, file: str, revision: str = "main") -> Path:
    """A file of a repository. Of a branch, all files that a process asks for are of one commit.

    Raises:
        Unavailable: it is not here, and the hub did not give it.
        OSError: the disk is full.
    """
    revision = _COMMITS.get((repo, revision), revision)
    path = cached(repo, file, revision) or fetch(repo, file, revision)
    if not COMMIT.fullmatch(revision):
        _COMMITS[repo, revision] = path.parents[len(PurePosixPath(file).parts) - 1].name
    return path


def commit_of(repo: str, file: str, revision: str = "main") -> str:
    """The commit that a branch stands for in this process, told by one of its files.

    Raises:
        OSError: as :func:`file_of`.
    """
    if COMMIT.fullmatch(revision):
        return revision
    file_of(repo, file, revision)
    return _COMMITS[repo, revision]


def cached(repo: str, file: str, revision: str) -> Path | None:
    """The file in the hub's cache, where it is there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def fetch(repo: str, file: str, revision: str) -> Path:
    """The file, brought into the hub's cache.

    Raises:
        Unavailable: the hub did not give it.
        OSError: the disk is full.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if "://" not in constants.ENDPOINT:
        raise Unavailable(f"HF_ENDPOINT is {constants.ENDPOINT}, which is no URL: https:// is missing")
    if not answers():
        raise Unavailable("HF_HUB_OFFLINE is set" if offline() else f"{constants.ENDPOINT} could not be reached")
    try:
        return Path(hf_hub_download(repo, file, revision=revision, etag_timeout=TIMEOUT_SECONDS))
    except Exception as error:  # each way of transport has errors of its own; all are told
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        # this one says "check your connection" of a 403 too
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
        raise Unavailable(error_text(cause or error)) from error


def offline() -> bool:
    """Whether HF_HUB_OFFLINE is set, as the hub's own client reads it: once, when it is imported."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def answers() -> bool:
    """Ask briefly, and once in a while: the hub's own client retries for half a minute on a machine without network."""
    return _answers(int(time.monotonic() // AGAIN_SECONDS))


@functools.lru_cache(maxsize=1)
def _answers(_when: int) -> bool:
    import http.client
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if offline():
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310 the hub that the user configured
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:  # it answers
        return True
    except (OSError, http.client.HTTPException):  # or something answers that is no hub
        return False
    return True
