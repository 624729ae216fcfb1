"""Small local files, written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..machine import alive

# ends the name of a file that is being written: by which process, of which machine
TEMPORARY = re.compile(r"\.(\d+)-([0-9a-f]{8})-[0-9a-f]{8}~$")
LATE = 3600.0  # seconds after which a process of another machine does not write a small file any more


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path``, to write a file to: it takes the place of ``path`` where the block ends.

    Where the block raises, ``path`` stays as it was and the new file is removed.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}-{_machine()}-{uuid.uuid4().hex[:8]}~")
    try:
        with naming_path(path, scratch):
            yield scratch
            sync(scratch)
            os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)  # it is also there still where both were links to one file


def is_left_behind(path: Path) -> bool:
    """Whether a file is what a process was writing that has ended, as far as is known here, or this one before."""
    owner = TEMPORARY.search(path.name)
    if not owner:
        return False
    pid = int(owner[1])
    if owner[2] == _machine():
        return pid == os.getpid() or not alive(pid)
    with suppress(OSError):  # it has got its name, or is gone
        return time.time() - path.stat().st_mtime > LATE
    return False


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


@contextmanager
def naming_path(path: Path, scratch: Path | None = None) -> Iterator[None]:
    """Errors in here that name no file, or ``scratch``, name ``path``: a full disk is told of without a name."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename in (None, str(scratch)):
            error.filename = str(path)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file, whole or not at all."""
    with replacing(path) as scratch:
        scratch.write_bytes(data)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # folders cannot be synced everywhere
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
