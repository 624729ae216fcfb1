"""Small local files, written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = re.compile(r"\.(\d+)-[0-9a-f]{8}~$")  # ends the name of a file that is being written, by which process


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path``, to write a file to: it takes the place of ``path`` where the block ends.

    Where the block raises, ``path`` stays as it was and the new file is removed.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}~")
    try:
        with naming_path(path, scratch):
            yield scratch
            sync(scratch)
            os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)  # it is also there still where both were links to one file


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
