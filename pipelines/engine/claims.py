"""What the processes of a machine claim among themselves: a name that one of them has at a time, until it ends.

A claim is a socket bound in Linux's abstract namespace (unix(7)): no file stays behind, whatever ends the process.
Containers with a network of their own see only their own claims; on other systems than Linux nobody sees any.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from pathlib import Path

BOUND = Path("/proc/net/unix")
OURS = "controlmill-"


def claim(name: str) -> socket.socket | None:
    """A name, until the socket is closed; None where another process has it, or where names cannot be claimed."""
    if sys.platform != "linux":
        return None
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0{OURS}{name}")
    except OSError:
        held.close()
        return None
    return held


def first_of(names: Iterable[str]) -> tuple[int, socket.socket | None]:
    """The first of some names that can be claimed: its place among them, and the claim; 0 and None where none can."""
    for place, name in enumerate(names):
        held = claim(name)
        if held:
            return place, held
    return 0, None


def claimed(beginning: str) -> int:
    """How many names with a beginning are claimed; 0 where that is not told."""
    try:
        lines = BOUND.read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return sum(line.partition(" @")[2].startswith(OURS + beginning) for line in lines)
