"""Files of bases and ControlNets, in a folder or in a repository on the hub, read without torch."""

from __future__ import annotations

import errno
import json
from pathlib import Path, PurePosixPath
from typing import Any

from controlmill.annotators.runtime import hub

MOST_FILES = 1000  # that a network's weights may be in
PATHS = ("/", ".", "~")  # what begins so is no name on the hub


def file_of(where: str, file: str) -> Path:
    """A file of a folder, or of a repository on the hub, as ``owner/name`` or ``owner/name@revision``.

    Raises:
        OSError: it is not there; it is not in the hub's cache, and the hub did not give it.
    """
    if Path(where).exists():
        path = Path(where, file)
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, f"there is no {file}", str(path))
        return path
    if where.startswith(PATHS):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", where)
    repo, _, revision = where.partition("@")
    return hub.file_of(repo, file, revision or "main")


def pinned(where: str, file: str) -> str:
    """A repository on the hub as ``owner/name@commit``, the commit that this process reads; a folder or file as it is.

    Args:
        where: as for :func:`file_of`.
        file: that the repository has.

    Raises:
        OSError: it cannot be had.
    """
    if Path(where).exists():
        return where
    repo, _, revision = where.partition("@")
    return f"{repo}@{hub.commit_of(repo, file, revision or 'main')}"


def read_config(where: str, file: str) -> dict[str, Any]:
    """A configuration file; arguments as those of :func:`file_of`.

    Raises:
        OSError: it cannot be had.
        ValueError: it is no JSON object.
    """
    path = file_of(where, file)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no JSON object")
    return config


def weights_of_network(where: str, file: str) -> list[Path]:
    """The files that a network's weights are in: ``file``, a .safetensors one, or several that a list beside it names.

    Raises:
        OSError: they cannot be had.
        ValueError: the list of them is damaged.
    """
    try:
        return [file_of(where, file)]
    except OSError as error:
        try:
            weight_map = read_config(where, f"{file}.index.json").get("weight_map")
        except OSError:
            raise error from None
    names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    if not 0 < len(names) <= MOST_FILES or any(PurePosixPath(name).name != name for name in names):
        raise ValueError(f"{file}.index.json of {where} names no files")
    return [file_of(where, str(PurePosixPath(file).with_name(name))) for name in names]
