"""Where a dataset's files are: a local folder or an fsspec address (``s3://…``, ``gs://…``; to read, any other too).

Data files are only ever put whole under their final name, and only if that name is still free.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from . import documents
from .errors import MillError
from .machine import alive

REPAIR = "a file in _tables can be removed, the next run makes it again; dataset.json must be restored"
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # protocol → the extra that brings its package
# where a put can fail if the name is taken; elsewhere fsspec looks first and then writes, piece by piece
CREATES = {*EXTRAS, "memory"}
TEMPORARY = re.compile(r"\.(\d+)-[0-9a-f]{8}~$")


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

    def open(self, name: str) -> BinaryIO:
        """Open for reading."""
        return open(self.path(name), "rb") if self.local else self.fs.open(self.path(name), "rb")

    def read(self, name: str) -> bytes:
        """A whole file."""
        with self.open(name) as file:
            return file.read()

    def read_json(self, name: str, shape: Any = object, advice: str = REPAIR) -> Any:
        """A JSON file of a shape (see :func:`documents.parse`); ``None`` where there is none.

        Args:
            name: which.
            shape: what is expected.
            advice: what to do where it is damaged.

        Raises:
            MillError: the file is not JSON, or of another shape.
        """
        if not self.exists(name):
            return None
        try:
            with self.open(name) as file:
                return documents.parse(file.read(documents.MAX_BYTES + 1), shape)
        except ValueError as error:
            raise documents.damaged(self.path(name), error, advice) from error

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
        folder.mkdir(parents=True, exist_ok=True)
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
            MillError: the file system cannot create a file only if it is absent.
        """
        self._writable()
        target = self.path(name)
        if not self.local:
            try:
                self.fs.put_file(str(scratch), target, mode="create")
            except FileExistsError:
                return False
            return True
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _sync(scratch)
        try:
            os.link(scratch, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise MillError(
                    f"the file system of {self.root} has no hard links, which commits need: "
                    "choose a dataset folder on a local disk, NFS or an object store"
                ) from error
            raise
        _sync(Path(target).parent)
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write a small file that may change (never a data file), whole or not at all."""
        self._writable()
        target = self.path(name)
        if not self.local:
            self.fs.pipe_file(target, data)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = f"{target}.{os.getpid()}-{uuid.uuid4().hex[:8]}~"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def sweep(self) -> None:
        """Remove what small writes of dead processes left behind, at the top and in its folders.

        A process that sweeps writes nothing at that time: what has its own number is of one before it.
        """
        for folder in ("", *self.folders()) if self.local else ():
            for name in self.files(folder):
                owner = TEMPORARY.search(name)
                if owner and (int(owner[1]) == os.getpid() or not alive(int(owner[1]))):
                    self.remove(f"{folder}/{name}" if folder else name)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all."""
        self.write(name, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())

    def remove(self, name: str) -> None:
        """Remove a file or folder; nothing happens where there is none."""
        self._writable()
        path = self.path(name)
        if not self.local:
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)
        elif os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

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


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # folders cannot be synced everywhere
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
