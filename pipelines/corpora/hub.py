"""Addresses on the Hugging Face Hub: which commit of a repository they mean, and which kind of corpus it holds.

Files are read through huggingface_hub's fsspec file system. A repository changes; a listing is of one commit, which is
part of the corpus's address from then on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.images.formats import picture_endings

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
ADDRESS = re.compile(
    r"hf://datasets/(?P<repo>[^/@\s]+/[^/@\s]+)(@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?P<path>/.*)?",
    re.DOTALL,
)
COMMIT = re.compile(r"[0-9a-f]{40}")
TABLES, ARCHIVES = "**/*.parquet", "**/*.tar"
SHOWN = 8  # endings of files in a message


def pinned(address: str, commit: str | None = None) -> str:
    """A Hub's address at a commit.

    It is the stated one; else ``commit``, where that was of the stated branch, or none is stated; else that which the
    stated branch, or the main one, has now.

    Raises:
        MillError: it is no data set's address, or the Hub does not answer.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise MillError(f"{address}: write hf://datasets/OWNER/NAME, with a path below it where you want a part")
    repo, revision, path = found["repo"], found["revision"], found["path"] or ""
    if revision is None or not COMMIT.fullmatch(revision):
        known = commit if commit and COMMIT.fullmatch(commit) else None
        goes_on = known and (revision is None or known in _history(repo, revision))
        revision = known if known and goes_on else _commit(repo, revision)
    return f"{SCHEME}datasets/{repo}@{revision}{path}"


def commit_of(address: str) -> str | None:
    """The commit of a pinned address."""
    found = ADDRESS.fullmatch(address)
    return found["revision"] if found else None


def is_at_commit(listed: str, address: str) -> bool:
    """Whether what was listed is at an address of the Hub that states no revision."""
    at, found = ADDRESS.fullmatch(listed), ADDRESS.fullmatch(address)
    if at is None or found is None or found["revision"]:
        return False
    path = (found["path"] or "").rstrip("/")
    return at["repo"] == found["repo"] and (at["path"] or "") in (path, f"{path}/{TABLES}", f"{path}/{ARCHIVES}")


def with_pattern(address: str) -> str:
    """An address of a folder as one of what it holds: its tables, its archives, or itself where it holds pictures.

    Raises:
        MillError: it holds several of these, or none.
    """
    address = address.rstrip("/")
    endings = _endings(address)
    pictures = sum(count for ending, count in endings.items() if ending in picture_endings())
    what = {
        f"{address}/{TABLES}": (endings[".parquet"], "Parquet files"),
        f"{address}/{ARCHIVES}": (endings[".tar"], "tar archives"),
        address: (pictures, "pictures"),
    }
    there = [pattern for pattern, (count, _) in what.items() if count]
    if len(there) == 1:
        return there[0]
    counts = ", ".join(f"{count:,} {name}" for count, name in what.values())
    if there:
        ways = f"{address}/FOLDER, '{address}/{TABLES}' or '{address}/{ARCHIVES}'"
        raise MillError(f"{address} has {counts}: say which you mean, {ways}")
    met = ", ".join(f"{ending or 'no ending'} {count:,}" for ending, count in endings.most_common(SHOWN))
    raise MillError(f"{address} has {counts}, but other files ({met or 'none'})")


def _commit(repo: str, revision: str | None) -> str:
    """The commit that a revision of a data set is now."""
    with _asking(repo, revision) as hub:
        return str(hub.dataset_info(repo, revision=revision).sha)


def _history(repo: str, revision: str) -> set[str]:
    """The commits of a branch."""
    with _asking(repo, revision) as hub:
        return {commit.commit_id for commit in hub.list_repo_commits(repo, repo_type="dataset", revision=revision)}


@contextmanager
def _asking(repo: str, revision: str | None) -> Iterator[HfApi]:
    import huggingface_hub

    try:
        yield huggingface_hub.HfApi()
    except Exception as error:  # of its HTTP client, too
        raise MillError(
            f"{SCHEME}datasets/{repo}{f'@{revision}' if revision else ''} cannot be read ({error_text(error)}); "
            "a private or gated data set needs: hf auth login"
        ) from error


def _endings(address: str) -> Counter[str]:
    import huggingface_hub

    try:
        found = list(huggingface_hub.HfFileSystem().find(address))
    except Exception as error:
        raise MillError(f"{address} cannot be listed ({error_text(error)})") from error
    names = (path.rpartition("/")[2] for path in found)
    return Counter(f".{name.rpartition('.')[2].lower()}" if "." in name else "" for name in names if name[0] != ".")
