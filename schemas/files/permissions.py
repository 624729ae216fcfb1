"""Permissions of files that a library wrote for their owner alone."""

from __future__ import annotations

import os
from pathlib import Path

UMASK = os.umask(0o077)  # it can only be read by setting it, which threads that make files must not see: so once, here
os.umask(UMASK)


def obey_umask(path: Path) -> None:
    """Give a file the permissions that any other new file of this process gets.

    safetensors, and Python's ``tempfile``, make files of mode 0600 whatever the umask says: nobody else can read them.
    """
    path.chmod(0o666 & ~UMASK)
