"""A dataset in a local folder, or one that is mounted: commits are hard links."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fsspec.implementations.local import LocalFileSystem
from typing_extensions import override

from ..errors import Gone, MillError
from .storage import CONFIG, Storage
from .whole import is_left_behind, sync, write_whole


class LocalStorage(Storage):
    """Files below a folder."""

    local = True

    def __init__(self, folder: str):
        super().__init__(LocalFileSystem(), os.path.abspath(folder))

    @property
    @override
    def address(self) -> str:
        """The absolute path."""
        return self.root

    # reading

    @override
    def exists(self, name: str = "") -> bool:
        return os.path.lexists(self.path(name))

    @override
    def has_file(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    @override
    def open(self, name: str) -> BinaryIO:
        path = self.path(name)
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return open(path, "rb")

    @override
    def read_start(self, name: str, size: int) -> bytes | None:
        if not self.exists(name):
            return None
        with self.open(name) as file:
            there = file.seek(0, os.SEEK_END)
            file.seek(0)
            return file.read(min(there, size))  # it is allocated at once

    @override
    def files(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path(folder)) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it was removed since: the others are there
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return found

    @override
    def folders(self, folder: str = "") -> list[str]:
        try:
            with os.scandir(self.path(folder)) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    @override
    def age(self, folder: str) -> float:
        try:
            return time.time() - os.stat(self.path(folder)).st_mtime
        except FileNotFoundError:
            return 0.0

    # writing

    @override
    def scratch_folder(self, run: str) -> Path:
        self.require()
        folder = Path(self.path(f"_run/{run}/scratch"))
        if not folder.is_dir():
            raise Gone(f"the run {run} of {self.root} is over: nothing more is written for it")
        return folder

    @override
    def commit(self, scratch: Path, name: str) -> bool:
        self.require()
        target = self.path(name)
        _make_folder(os.path.dirname(target))
        sync(scratch)
        try:
            os.link(scratch, target)
        except FileExistsError as error:
            if not os.path.isfile(target):
                raise MillError(f"{target} is no file, and in the way of one: move it away") from error
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise MillError(
                    f"the file system of {self.root} has no hard links, which commits need: "
                    "choose a dataset folder on a local disk, NFS or an object store"
                ) from error
            raise
        return True

    @override
    def write(self, name: str, data: bytes) -> None:
        if name != CONFIG:
            self.require()
        target = self.path(name)
        _make_folder(os.path.dirname(target))
        write_whole(Path(target), data)

    @override
    def mark(self, name: str, data: bytes) -> None:
        self.require()
        scratch = Path(self.path("/".join(name.split("/")[:2]))) / f"scratch/controlmill-{uuid.uuid4().hex}"
        scratch.write_bytes(data)
        os.replace(scratch, self.path(name))

    @override
    def move(self, source: str, target: str) -> None:
        self.require()
        _make_folder(os.path.dirname(self.path(target)))
        os.replace(self.path(source), self.path(target))
        sync(Path(self.path(target)).parent)

    @override
    def replace_folder(self, source: str, target: str, aside: str) -> None:
        self.require()
        if self.exists(source):
            if self.exists(target):
                self.remove(aside)
                self.move(target, aside)
            self.move(source, target)

    @override
    def remove(self, name: str) -> None:
        path = self.path(name)
        if not os.path.isdir(path):
            self.remove_file(name)
        while os.path.isdir(path):
            with suppress(FileNotFoundError):  # another job removes it too
                shutil.rmtree(path)

    @override
    def remove_file(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path(name))

    @override
    def keep_names(self, folder: str) -> None:
        for part in self.folders(folder):
            sync(Path(self.path(f"{folder}/{part}")))
        sync(Path(self.path(folder)))

    @override
    def sweep(self) -> None:
        for folder in ("", *self.folders(), "_redo/_aims", "_redo/_tables"):
            for name in self.files(folder):
                if is_left_behind(Path(self.path(folder), name)):
                    self.remove(f"{folder}/{name}" if folder else name)

    @override
    def prune(self, folder: str) -> None:
        for path, _, _ in os.walk(self.path(folder), topdown=False):
            with suppress(OSError):  # something is in it
                os.rmdir(path)


def _make_folder(path: str | Path) -> None:
    """Make a folder below the dataset; another job may be removing empty ones."""
    for _ in range(3):
        with suppress(FileNotFoundError):
            os.makedirs(path, exist_ok=True)
            return
    os.makedirs(path, exist_ok=True)
