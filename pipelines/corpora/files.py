"""Files of a corpus, read within bounds: whatever a name leads to, a job neither waits for it nor reads without end."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from controlmill.schemas.errors import Refused

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
MAKE_ROOM = "make room for temporary files, or set TMPDIR to where some is"


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device would be waited for.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    _check(os.stat(path))  # opening alone may wake a device
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 returned
    try:
        _check(os.fstat(file.fileno()))  # it may have been exchanged since
    except OSError:
        file.close()
        raise
    return file


def _check(there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Up to ``limit`` + 1 bytes of a regular file, and no more than its size + 1.

    A file without a size is not read: one that a kernel or a daemon makes up as it is read may never come.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        return file.read(min(size, limit) + 1) if size else b""


def read_capped(path: str | os.PathLike[str], cap: int) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        Refused: too_many_bytes.
    """
    data = read_regular(path, cap)
    if len(data) > cap:
        raise Refused("too_many_bytes", f"more than {cap} bytes, the cap")
    return data
