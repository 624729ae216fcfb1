"""Whether it is this machine's network that is down, where hosts cannot be reached."""

from __future__ import annotations

import errno
import socket

from ..engine.faults import JobFault

CODES = (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, socket.EAI_AGAIN)  # what it looks like then
ANYWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))  # addresses of no host, for documentation
IN_A_ROW = 8  # pictures, after a host has answered
HOSTS = 16  # one broken zone says nothing of the network
GO_ON = "when it is back, run the same command again; what was refused meanwhile is taken again by controlmill retry"


class Network:
    """What is known of the network, from pictures given up in a row. An answer of any host says that it is there."""

    def __init__(self) -> None:
        self._was_there = False
        self._lost = 0
        self._hosts: set[str] = set()

    def answered(self) -> None:
        """A host has answered."""
        self._was_there = True
        self._lost = 0
        self._hosts.clear()

    def lost(self, host: str) -> None:
        """A picture is given up, for an error of :data:`CODES`.

        Raises:
            JobFault: the network is down.
        """
        self._lost += 1
        self._hosts.add(host)
        if (self._lost >= IN_A_ROW or not self._was_there) and not has_route():
            raise JobFault(f"the network is down, this machine reaches no public address: {GO_ON}")
        if len(self._hosts) >= HOSTS:
            raise JobFault(f"the network is down, or its name server: {HOSTS} hosts in a row were not found: {GO_ON}")


def has_route() -> bool:
    """Whether packets to public addresses would leave this machine; none is sent."""
    for family, address in ANYWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
            return True
        except OSError:
            continue
    return False
