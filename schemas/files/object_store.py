"""A dataset on an object store (``s3://…``, ``gs://…``; to read, any other fsspec address too).

Commits are puts that must create.
"""

from __future__ import annotations

import math
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from typing_extensions import override

from ..errors import MillError
from .storage import CONFIG, Storage

REQUIRE_SECONDS = 10.0  # each look is paid for: a dataset that was there is taken to be
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # protocol → the extra that brings its package
# where a put can fail if the name is taken; elsewhere fsspec looks first and then writes, piece by piece
CREATES = {*EXTRAS, "memory"}


class ObjectStore(Storage):
    """Files below a path of a file system of fsspec. Without puts that must create, it can only be read."""

    local = False

    def __init__(self, fs: Any, root: str):
        super().__init__(fs, root.rstrip("/"))
        self._required = -math.inf

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[Any, str]]:
        return ObjectStore, (self.fs, self.root)  # clocks of machines differ

    @property
    @override
    def address(self) -> str:
        """The address with its protocol."""
        return str(self.fs.unstrip_protocol(self.root))

    # reading

    @override
    def exists(self, name: str = "") -> bool:
        return bool(self.fs.exists(self.path(name)))

    @override
    def has_file(self, name: str) -> bool:
        return self.read_start(name, 1) is not None

    @override
    def open(self, name: str) -> BinaryIO:
        return self.fs.open(self.path(name), "rb")

    @override
    def read_start(self, name: str, size: int) -> bytes | None:
        try:
            return bytes(self.fs.cat_file(self.path(name), start=0, end=size))
        except FileNotFoundError:
            return None

    @override
    def files(self, folder: str) -> dict[str, int]:
        return {
            info["name"].rsplit("/", 1)[-1]: info["size"] for info in self._listed(folder) if info["type"] == "file"
        }

    @override
    def folders(self, folder: str = "") -> list[str]:
        found = (info["name"] for info in self._listed(folder) if info["type"] == "directory")
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        """What is directly inside a folder; fsspec remembers it, and what others committed since must be seen."""
        try:
            return list(self.fs.ls(self.path(folder), detail=True, refresh=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    # writing

    @override
    def scratch_folder(self, run: str) -> Path:
        return Path(tempfile.gettempdir())

    @override
    def commit(self, scratch: Path, name: str) -> bool:
        self._check_writable()
        self.require()
        try:
            self.fs.put_file(str(scratch), self.path(name), mode="create")
        except FileExistsError:
            return False
        return True

    @override
    def write(self, name: str, data: bytes) -> None:
        self._check_writable()
        if name != CONFIG:
            self.require()
        self.fs.pipe_file(self.path(name), data)

    @override
    def move(self, source: str, target: str) -> None:
        self._check_writable()
        self._copy(source, target)
        self.remove(source)

    @override
    def replace_folder(self, source: str, target: str, aside: str) -> None:
        self._check_writable()
        self.require()
        self.remove(target)
        self._copy(source, target)

    def _copy(self, source: str, target: str) -> None:
        """Copy a file, or all files of a folder, inside the store."""
        self.fs.invalidate_cache()
        start = len(self.fs._strip_protocol(self.path(source)))
        found = [path for path in self.fs.find(self.path(source)) if path[start : start + 1] in ("", "/")]
        self.fs.copy(found, [self.path(target) + path[start:] for path in found])

    @override
    def remove(self, name: str) -> None:
        self._check_writable()
        path = self.path(name)
        if self.fs.exists(path):
            self.fs.rm(path, recursive=True)

    @override
    def remove_file(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    @override
    def require(self) -> None:
        if time.monotonic() - self._required >= REQUIRE_SECONDS:
            super().require()
            self._required = time.monotonic()

    def _check_writable(self) -> None:
        """Raise MillError where commits could not be kept whole: every job writes a small file before its first."""
        protocol = self.fs.protocol
        if CREATES.isdisjoint((protocol,) if isinstance(protocol, str) else protocol):
            raise MillError(
                f"{self.address} can only be read: commits need a file system that creates a file only if absent; "
                "make the dataset in a local folder, on s3:// or on gs://"
            )
