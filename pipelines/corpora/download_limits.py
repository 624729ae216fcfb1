"""What downloads of a process share: connections, in all and to each host, and memory. Used in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class _Host:
    free: asyncio.Semaphore
    users: int = 0
    not_before: float = 0.0


@dataclass
class Connections:
    """So many at a time, and fewer to one host; a host that asks to be left alone is."""

    most: int
    most_of_a_host: int
    _hosts: dict[str, _Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.most)

    @asynccontextmanager
    async def hold(self, host: str) -> AsyncIterator[None]:
        """Wait until a connection to a host may be used, and use it for the block."""
        there = self._hosts.setdefault(host, _Host(asyncio.Semaphore(self.most_of_a_host)))
        there.users += 1
        try:
            async with there.free:
                await asyncio.sleep(max(0.0, there.not_before - asyncio.get_running_loop().time()))
                async with self._free:
                    yield
        finally:
            there.users -= 1
            if not there.users and there.not_before <= asyncio.get_running_loop().time():
                self._hosts.pop(host, None)

    def leave_alone(self, host: str, seconds: float) -> None:
        """Begin nothing more with a host that is in use, for some time."""
        there = self._hosts[host]
        there.not_before = max(there.not_before, asyncio.get_running_loop().time() + seconds)


class Memory:
    """A bound of bytes for downloads. The oldest one may pass it, so that there is always one that gets on."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: dict[int, int] = {}  # by number, in the order of their beginning
        self._waiting: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._begun = 0

    def claim(self) -> Claim:
        """A new download's part; it holds nothing yet."""
        self._begun += 1
        self.held[self._begun] = 0
        return Claim(self, self._begun)

    async def grow(self, number: int, count: int) -> None:
        """Wait until there is room for ``count`` bytes more."""
        while sum(self.held.values()) + count > self.most and number != next(iter(self.held)):
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter
        self.held[number] += count

    def free(self, number: int) -> None:
        """Give a part back; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._free, number)

    def _free(self, number: int) -> None:
        self.held.pop(number, None)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()


@dataclass
class Claim:
    """A download's part of the memory, from its beginning until what was downloaded is not needed any more."""

    memory: Memory
    number: int
    size: int = 0
    released: bool = False

    async def grow(self, size: int, step: int) -> None:
        """Hold ``size`` bytes; more is claimed in steps."""
        while self.size < size:
            await self.memory.grow(self.number, step)
            self.size += step

    def release(self) -> None:
        """Give it back, once; from any thread."""
        if not self.released:
            self.released = True
            self.memory.free(self.number)

    __del__ = release  # of rows that a job which stops leaves undone
