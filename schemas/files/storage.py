"""Where a dataset's files are: a local folder (:mod:`local_storage`) or an object store (:mod:`object_store`).

Data files are only ever put whole under their final name, and only if that name is still free.
"""

from __future__ import annotations

import json
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

from ..errors import Gone
from . import documents

CONFIG = "dataset.json"
T = TypeVar("T")
REPAIRS = {  # of a JSON file, by its folder
    "": "it must be restored from a copy",
    "_tables": "remove it, and run the command that made the table again: it is made again from the table's files",
    "_redo": "remove the folder _redo, and run the command with --overwrite again",
    "_run": "remove the folder _run, if no job works on the dataset",
}


class Storage(ABC):
    """Files below one address, named by relative paths with forward slashes.

    ``root`` is the path inside the file system ``fs`` of fsspec.
    """

    local: ClassVar[bool]

    def __init__(self, fs: Any, root: str):
        self.fs = fs
        self.root = root

    @property
    @abstractmethod
    def address(self) -> str:
        """The absolute address, usable from any process."""

    def path(self, name: str = "") -> str:
        """The full path of ``name`` inside the file system."""
        return f"{self.root}/{name}" if name else self.root

    # reading

    @abstractmethod
    def exists(self, name: str = "") -> bool:
        """Whether a file or folder is there."""

    @abstractmethod
    def has_file(self, name: str) -> bool:
        """Whether a file is there; on a store this is one request, and the file is not empty."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open for reading; a pipe or a device, which would be read for ever, is an OSError."""

    def read(self, name: str) -> bytes:
        """A whole file."""
        with self.open(name) as file:
            return file.read()

    def read_json(self, name: str, kind: type[T], advice: str | None = None) -> T | None:
        """A JSON file as a dataclass (see :func:`documents.parse`); ``None`` where there is none.

        Args:
            name: which.
            kind: the dataclass.
            advice: what to do where it is damaged; None: what can be done to files of its folder.

        Raises:
            MillError: the file is not JSON, or of another shape.
        """
        try:
            data = self.read_start(name, documents.MAX_BYTES + 1)
            return None if data is None else documents.parse(data, kind)
        except ValueError as error:
            advice = REPAIRS.get(os.path.dirname(name).split("/", 1)[0], "") if advice is None else advice
            raise documents.damaged(self.path(name), error, advice) from error

    @abstractmethod
    def read_start(self, name: str, size: int) -> bytes | None:
        """The first ``size`` bytes of a file; None where there is none. On a store it is one request."""

    @abstractmethod
    def files(self, folder: str) -> dict[str, int]:
        """Names and sizes of the files directly inside ``folder``; empty where there is no such folder."""

    @abstractmethod
    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly inside ``folder``, sorted."""

    # writing

    @contextmanager
    def scratch(self, run: str) -> Iterator[Path]:
        """A new local file path to write a data file to, on the disk of the dataset where that is local.

        The file is removed in the end, whether it was committed or not.
        """
        path = self.scratch_folder(run) / f"controlmill-{uuid.uuid4().hex}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @abstractmethod
    def scratch_folder(self, run: str) -> Path:
        """A local folder for files that a run writes before they are committed.

        Raises:
            Gone: the dataset was removed, or the run is over.
        """

    @abstractmethod
    def commit(self, scratch: Path, name: str) -> bool:
        """Put a finished local file under its final name, if nobody did before.

        Its bytes survive a power cut from here on, its name from :meth:`keep_names` on.

        Returns:
            Whether it was put; False means that another commit was first and stays as it is.

        Raises:
            MillError: the file system cannot create a file only if it is absent, or something else has its name.
            Gone: the dataset was removed.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a small file that may change (never a data file), whole or not at all.

        Raises:
            Gone: the dataset was removed.
        """

    def mark(self, name: str, data: bytes) -> None:
        """Write a small file of a live run, ``_run/ID/…``, whole or not at all; after a power cut it may be lost.

        Raises:
            FileNotFoundError: the run is over: its folder, which is not made again, is gone. Not seen on a store.
            Gone: the dataset was removed.
        """
        self.write(name, data)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all; ``value`` is plain, or a dataclass that can be read again."""
        self.write(name, (json.dumps(documents.plain(value), indent=1, sort_keys=True) + "\n").encode())

    @abstractmethod
    def move(self, source: str, target: str) -> None:
        """Give a file another name, which may be taken. On a store that is a copy, and both are there for a while."""

    @abstractmethod
    def replace_folder(self, source: str, target: str, aside: str) -> None:
        """Put a folder in the place of another, which goes ``aside`` (on a store, it goes); can be done again.

        On a store the source stays, to copy it again where that was cut off.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file or folder; nothing happens where there is none."""

    @abstractmethod
    def remove_file(self, name: str) -> None:
        """Remove a small file; nothing happens where there is none. On a store this is one request."""

    def require(self) -> None:
        """What works on a dataset must not make its folder again after it was removed.

        Raises:
            Gone: there is no dataset any more.
        """
        if not self.has_file(CONFIG):
            raise Gone(f"{self.address} was removed (it has no {CONFIG}): nothing more is written to it")

    # what only a local folder needs

    def keep_names(self, folder: str) -> None:  # noqa: B027
        """Make the names of what was committed in a folder's folders survive a power cut, as their bytes do anyway.

        Done once for many commits: a file whose name is lost is one that was not made yet.
        """

    def sweep(self) -> None:  # noqa: B027
        """Remove what small writes of dead processes left behind, at the top and in its folders.

        A process that sweeps writes nothing at that time: what has its own number is of one before it.
        """

    def age(self, folder: str) -> float:
        """Seconds since something was put into a local folder; none where it is gone, or on a store."""
        return 0.0

    def prune(self, folder: str) -> None:  # noqa: B027
        """Remove a folder's empty folders, and the folder if nothing is in it then."""
