"""Where a dataset's files are: a local folder or an fsspec address (``s3://…``, ``gs://…``; to read, any other too).

Data files are only ever put whole under their final name, and only if that name is still free.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..errors import Gone, MillError
from ..machine import alive
from . import documents
from .whole import TEMPORARY, sync, write_whole

CONFIG = "dataset.json"
REQUIRE_SECONDS = 10.0  # on a store, where each look is paid for, a dataset that was there is taken to be
T = TypeVar("T")
REPAIRS = {  # of a JSON file, by its folder
    "": "it must be restored from a copy",
    "_tables": "remove it, and run the command that made the table again: it is made again from the table's files",
    "_redo": "remove the folder _redo, and run the command with --overwrite again",
    "_run": "remove the folder _run, if no job works on the dataset",
}
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # protocol → the extra that brings its package
# where a put can fail if the name is taken; elsewhere fsspec looks first and then writes, piece by piece
CREATES = {*EXTRAS, "memory"}


class Storage:
    """Files below one address, named by relative paths with forward slashes.

    Raises:
        MillError: the address is of no known kind, or the package for its kind is not installed.
    """

    def __init__(self, address: str | os.PathLike[str]):
        address = os.fspath(address)
        # without a scheme it is a path, whatever characters are in it
        self.fs, root = _open(address) if "://" in address else (LocalFileSystem(), address)
        self.local = isinstance(self.fs, LocalFileSystem)
        self.root = os.path.abspath(root) if self.local else root.rstrip("/")
        self._seen = -math.inf

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.address,)

    @property
    def address(self) -> str:
        """The absolute address, usable from any process."""
        return self.root if self.local else self.fs.unstrip_protocol(self.root)

    def path(self, name: str = "") -> str:
        """The full path of ``name`` inside the file system."""
        return f"{self.root}/{name}" if name else self.root

    # reading

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder is there."""
        return os.path.lexists(self.path(name)) if self.local else self.fs.exists(self.path(name))

    def has_file(self, name: str) -> bool:
        """Whether a file is there, which is not empty; on a store this is one request."""
        if self.local:
            return os.path.lexists(self.path(name))
        try:
            self.fs.cat_file(self.path(name), start=0, end=1)
        except FileNotFoundError:
            return False
        return True

    def open(self, name: str) -> BinaryIO:
        """Open for reading; a pipe or a device, which would be read for ever, is an OSError."""
        path = self.path(name)
        if not self.local:
            return self.fs.open(path, "rb")
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return open(path, "rb")

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
            data = self._read_document(name)
            return None if data is None else documents.parse(data, kind)
        except ValueError as error:
            advice = REPAIRS.get(os.path.dirname(name).split("/", 1)[0], "") if advice is None else advice
            raise documents.damaged(self.path(name), error, advice) from error

    def _read_document(self, name: str) -> bytes | None:
        """A file of JSON, up to a byte more than is parsed; None where there is none. On a store it is one request."""
        if not self.local:
            try:
                found: bytes = self.fs.cat_file(self.path(name), start=0, end=documents.MAX_BYTES + 1)
            except FileNotFoundError:
                return None
            return found
        if not self.exists(name):
            return None
        with self.open(name) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return file.read(min(size, documents.MAX_BYTES) + 1)  # it is allocated at once

    def files(self, folder: str) -> dict[str, int]:
        """Names and sizes of the files directly inside ``folder``; empty where there is no such folder."""
        path = self.path(folder)
        try:
            if self.local:
                with os.scandir(path) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
            # fsspec remembers listings; what other machines committed since must be seen
            listed = self.fs.ls(path, detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {info["name"].rsplit("/", 1)[-1]: info["size"] for info in listed if info["type"] == "file"}

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly inside ``folder``, sorted."""
        path = self.path(folder)
        try:
            if self.local:
                with os.scandir(path) as entries:
                    return sorted(entry.name for entry in entries if entry.is_dir())
            listed = self.fs.ls(path, detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(info["name"].rstrip("/").rsplit("/", 1)[-1] for info in listed if info["type"] == "directory")

    # writing

    @contextmanager
    def scratch(self, run: str) -> Iterator[Path]:
        """A new local file path to write a data file to, on the disk of the dataset where that is local.

        The file is removed in the end, whether it was committed or not.
        """
        folder = Path(self.path(f"_run/{run}/scratch")) if self.local else Path(tempfile.gettempdir())
        if self.local:
            self.require()
            self._make_folder(folder)
        path = folder / f"controlmill-{uuid.uuid4().hex}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def commit(self, scratch: Path, name: str) -> bool:
        """Put a finished local file under its final name, if nobody did before.

        Returns:
            Whether it was put; False means that another commit was first and stays as it is.

        Raises:
            MillError: the file system cannot create a file only if it is absent, or something else has its name.
            Gone: the dataset was removed.
        """
        self._writable()
        self.require()
        target = self.path(name)
        if not self.local:
            try:
                self.fs.put_file(str(scratch), target, mode="create")
            except FileExistsError:
                return False
            return True
        self._make_folder(os.path.dirname(target))
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
        sync(Path(target).parent)
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write a small file that may change (never a data file), whole or not at all.

        Raises:
            Gone: the dataset was removed.
        """
        self._writable()
        if name != CONFIG:
            self.require()
        target = self.path(name)
        if not self.local:
            self.fs.pipe_file(target, data)
            return
        self._make_folder(os.path.dirname(target))
        write_whole(Path(target), data)

    def move(self, source: str, target: str) -> None:
        """Give a file another name, which may be taken. On a store that is a copy, and both are there for a while."""
        self._writable()
        if not self.local:
            self._copy(source, target)
            self.remove(source)
            return
        self.require()
        self._make_folder(os.path.dirname(self.path(target)))
        os.replace(self.path(source), self.path(target))
        sync(Path(self.path(target)).parent)

    def replace_folder(self, source: str, target: str, aside: str) -> None:
        """Put a folder in the place of another, which goes ``aside`` (on a store, it goes); can be done again.

        On a store the source stays, to copy it again where that was cut off.
        """
        self._writable()
        self.require()
        if not self.local:
            self.remove(target)
            self._copy(source, target)
        elif self.exists(source):
            if self.exists(target):
                self.remove(aside)
                self.move(target, aside)
            self.move(source, target)

    def _copy(self, source: str, target: str) -> None:
        """Copy a file, or all files of a folder, inside a store."""
        self.fs.invalidate_cache()
        start = len(self.fs._strip_protocol(self.path(source)))
        found = [path for path in self.fs.find(self.path(source)) if path[start : start + 1] in ("", "/")]
        self.fs.copy(found, [self.path(target) + path[start:] for path in found])

    def sweep(self) -> None:
        """Remove what small writes of dead processes left behind, at the top and in its folders.

        A process that sweeps writes nothing at that time: what has its own number is of one before it.
        """
        for folder in ("", *self.folders(), "_redo/_aims", "_redo/_tables") if self.local else ():
            for name in self.files(folder):
                owner = TEMPORARY.search(name)
                if owner and (int(owner[1]) == os.getpid() or not alive(int(owner[1]))):
                    self.remove(f"{folder}/{name}" if folder else name)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all; ``value`` is plain, or a dataclass that can be read again."""
        self.write(name, (json.dumps(documents.plain(value), indent=1, sort_keys=True) + "\n").encode())

    def remove(self, name: str) -> None:
        """Remove a file or folder; nothing happens where there is none."""
        self._writable()
        path = self.path(name)
        if not self.local:
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)
        elif os.path.isdir(path):
            while os.path.isdir(path):
                with suppress(FileNotFoundError):  # another job removes it too
                    shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def remove_file(self, name: str) -> None:
        """Remove a small file; nothing happens where there is none. On a store this is one request."""
        with suppress(FileNotFoundError):
            if self.local:
                os.unlink(self.path(name))
            else:
                self.fs.rm_file(self.path(name))

    def age(self, folder: str) -> float:
        """Seconds since something was put into a local folder; none where it is gone."""
        try:
            return time.time() - os.stat(self.path(folder)).st_mtime
        except FileNotFoundError:
            return 0.0

    def prune(self, folder: str) -> None:
        """Remove a folder's empty folders, and the folder if nothing is in it then."""
        for path, _, _ in os.walk(self.path(folder), topdown=False) if self.local else ():
            with suppress(OSError):  # something is in it
                os.rmdir(path)

    def require(self) -> None:
        """What works on a dataset must not make its folder again after it was removed.

        Raises:
            Gone: there is no dataset any more.
        """
        if not self.local and time.monotonic() - self._seen < REQUIRE_SECONDS:
            return
        if not self.has_file(CONFIG):
            raise Gone(f"{self.address} was removed (it has no {CONFIG}): nothing more is written to it")
        self._seen = time.monotonic()

    def _make_folder(self, path: str | Path) -> None:
        """Make a local folder below the dataset; another job may be removing empty ones."""
        for _ in range(3):
            with suppress(FileNotFoundError):
                os.makedirs(path, exist_ok=True)
                return
        os.makedirs(path, exist_ok=True)

    def _writable(self) -> None:
        """Raise MillError where commits could not be kept whole: every job writes a small file before its first."""
        protocol = self.fs.protocol
        if not self.local and CREATES.isdisjoint((protocol,) if isinstance(protocol, str) else protocol):
            raise MillError(
                f"{self.address} can only be read: commits need a file system that creates a file only if absent; "
                "make the dataset in a local folder, on s3:// or on gs://"
            )


def _open(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        return fsspec.core.url_to_fs(address)  # type: ignore[no-any-return]
    except ImportError as error:
        extra = EXTRAS.get(address.split("://", maxsplit=1)[0])
        install = f" (pip install '.[{extra}]' in ControlMill's checkout)" if extra else ""
        raise MillError(f"{address}: {error}{install}") from error
    except (ValueError, TypeError) as error:  # TypeError: a file system that an address alone does not name
        raise MillError(f"{address}: {error}") from error
