"""Downloads, bounded in number, time, bytes, redirects and memory, from public addresses unless others are allowed.

An event loop in a thread of its own does them all (aiohttp), because one deadline can then hold for a whole answer:
name, connection, headers and body. Where each connection goes is decided on the address that its socket is opened for,
so that neither a name that resolves differently the second time nor an odd notation of an address leads elsewhere.
No proxy is used, whatever the environment says, and no cookie is kept.
"""

from __future__ import annotations

import asyncio
import atexit
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.formats import HEAD_BYTES, begins_like_a_picture

from .addresses import is_public
from .download_limits import Claim, Connections, Memory
from .download_options import DownloadOptions
from .http_faults import NO_URL, MayPass, NotPublic, meaning, status_text
from .http_headers import opt_out, retry_after
from .network import Network
from .url_names import fault_of

MAX_REDIRECTS = 5
WHOLE = 6  # times --timeout: the longest that one try may take
NAMES_SECONDS = 10  # that an address is remembered
LONGEST_WAIT = 60  # seconds: a server that asks for more is not asked again
BODY_BYTES = 256 * 1024 * 1024  # of a process: bodies on their way, and pictures that are not decoded yet
STEP_BYTES = 1024 * 1024
MAY_PASS = (408, 425, 429)  # and 5xx
REDIRECTS = (301, 302, 303, 307, 308)
T = TypeVar("T")


@dataclass
class _Clock:
    """The time that a try has left; waiting for this process's own memory does not count."""

    end: float
    timeout: float
    deadline: asyncio.Timeout

    def wind(self) -> None:
        """So long until the next sign of life."""
        self.deadline.reschedule(min(asyncio.get_running_loop().time() + self.timeout, self.end))

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """The block takes no time."""
        self.deadline.reschedule(None)
        begun = asyncio.get_running_loop().time()
        yield
        self.end += asyncio.get_running_loop().time() - begun
        self.wind()


class Downloader:
    """The downloads of a process, by one set of options. Its methods may be called from any thread."""

    def __init__(self, options: DownloadOptions) -> None:
        self.options = options
        self._loop = asyncio.new_event_loop()
        # a name that is looked up holds a thread
        self._loop.set_default_executor(ThreadPoolExecutor(options.connections, thread_name_prefix="names"))
        threading.Thread(target=self._loop.run_forever, name="downloads", daemon=True).start()
        self._call(self._open()).result()
        atexit.register(self.close)

    def begin(self, url: str, max_bytes: int, finish: Callable[[bytes, Claim], T]) -> Future[T]:
        """Begin to download, in the order of calls; the future may be cancelled.

        Args:
            url: which.
            max_bytes: the most that is taken.
            finish: what the result is made of: the body, and the memory that it counts for until that is released.

        Returns:
            What ``finish`` makes, or what it raises: Refused (timeout, http_error, refused_address, opted_out,
            too_many_redirects, too_many_bytes, not_an_image); JobFault, where this machine is at its end.
        """
        return self._call(self._download(url, max_bytes, finish))

    def close(self) -> None:
        """End all downloads; to be called once."""
        atexit.unregister(self.close)
        with suppress(Exception):
            self._call(self._session.close()).result(timeout=1)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _call(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _open(self) -> None:
        self._connections = Connections(self.options.connections, self.options.connections_per_host)
        self._memory = Memory(BODY_BYTES)
        self._network = Network()
        connector = aiohttp.TCPConnector(
            limit=0,  # Connections has it
            keepalive_timeout=1,  # a list of many hosts would hold a socket of each
            resolver=aiohttp.ThreadedResolver(),
            ttl_dns_cache=NAMES_SECONDS,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # _Clock has it
            headers={
                "User-Agent": f"ControlMill/{version('controlmill')}",
                "Accept": "image/*, */*;q=0.5",
                "Accept-Encoding": "identity",
            },
        )

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address as it was resolved; aiohttp connects it to that very one."""
        family, kind, protocol, _, address = info
        if not self.options.allow_private_hosts and not is_public(address[0]):
            raise NotPublic
        return socket.socket(family, kind, protocol)

    async def _download(self, url: str, max_bytes: int, finish: Callable[[bytes, Claim], T]) -> T:
        claim = self._memory.claim()
        try:
            for tried in range(self.options.retries + 1):
                try:
                    return finish(await self._try(url, max_bytes, claim), claim)
                except MayPass as fault:
                    if tried == self.options.retries or (fault.after or 0) > LONGEST_WAIT:
                        if fault.is_of_network:
                            self._network.lost(_request_url(url).raw_authority)
                        raise fault.refused from None
                    await asyncio.sleep(max(self.options.retry_wait * 2**tried, fault.after or 0))
            raise AssertionError("the last try returns or raises")
        except BaseException:
            claim.release()
            raise

    async def _try(self, url: str, max_bytes: int, claim: Claim) -> bytes:
        """The body, through redirects."""
        left = self.options.timeout * WHOLE
        target = _request_url(url)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._connections.hold(target.raw_authority):
                begun = self._loop.time()
                found = await self._ask(target, max_bytes, claim, left)
            if isinstance(found, bytes):
                return found
            target, left = found, left - (self._loop.time() - begun)
        raise Refused("too_many_redirects", f"more than {MAX_REDIRECTS} redirects")

    async def _ask(self, target: URL, max_bytes: int, claim: Claim, left: float) -> bytes | URL:
        """The body at a URL, or where it redirects to."""
        try:
            async with asyncio.timeout(None) as deadline:
                clock = _Clock(self._loop.time() + left, self.options.timeout, deadline)
                clock.wind()
                async with self._session.get(target, allow_redirects=False) as answer:
                    self._network.answered()
                    self._check_allowed(answer)
                    if answer.status in REDIRECTS and "Location" in answer.headers:
                        return _redirected(target, answer.headers["Location"])
                    self._check_status(answer, target)
                    return await _body(answer, max_bytes, claim, clock)
        except TimeoutError:
            raise MayPass(Refused("timeout", f"no whole answer: {self._times()}")) from None
        except aiohttp.ClientError as error:
            raise meaning(error) from error
        except UnicodeError:  # a host's name that no name server can be asked for
            raise Refused("refused_address", NO_URL) from None

    def _times(self) -> str:
        timeout = self.options.timeout
        return f"nothing for {timeout:g} s, or not all within {timeout * WHOLE:g} s"

    def _check_allowed(self, answer: aiohttp.ClientResponse) -> None:
        directive = opt_out(answer.headers.getall("X-Robots-Tag", ()))
        if directive and not self.options.ignore_opt_out:
            raise Refused("opted_out", f"its server says {directive} (X-Robots-Tag); see --ignore-opt-out")

    def _check_status(self, answer: aiohttp.ClientResponse, target: URL) -> None:
        if answer.status in (200, 203):
            return
        refused = Refused("http_error", status_text(answer.status))
        if answer.status not in MAY_PASS and answer.status < 500:
            raise refused
        after = retry_after(answer.headers.get("Retry-After"))
        if after:
            self._connections.leave_alone(target.raw_authority, min(after, LONGEST_WAIT))
        raise MayPass(refused, after)


async def _body(answer: aiohttp.ClientResponse, max_bytes: int, claim: Claim, clock: _Clock) -> bytes:
    """The body, if it is within bounds and begins like a picture; decompressed where a server compressed it unasked.

    Raises:
        Refused: too_many_bytes, not_an_image.
    """
    if (answer.content_length or 0) > max_bytes:
        raise Refused("too_many_bytes", f"{answer.content_length} bytes; the cap is {max_bytes}")
    parts: list[bytes] = []
    size, looked = 0, False
    while part := await answer.content.readany():
        clock.wind()
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise Refused("too_many_bytes", f"more than the cap of {max_bytes} bytes")
        if not looked and size >= HEAD_BYTES:
            _check_head(b"".join(parts)[:HEAD_BYTES], answer)
            looked = True
        if size > claim.size:
            async with clock.stopped():
                await claim.grow(size, STEP_BYTES)
    data = b"".join(parts)
    if not looked:
        _check_head(data, answer)
    return data


def _check_head(head: bytes, answer: aiohttp.ClientResponse) -> None:
    if not begins_like_a_picture(head):
        said = "".join(char for char in answer.content_type[:60] if char.isprintable())
        raise Refused("not_an_image", f"the answer does not begin like a picture; it is called {said}")


def _request_url(url: str) -> URL:
    """A URL to ask for. One of plain ASCII is sent as it is: a signature may be of its spelling.

    Raises:
        Refused: refused_address.
    """
    fault = fault_of(url)
    try:
        plain = not fault and url.isascii() and " " not in url
        target = URL(url, encoded=plain).with_fragment(None)
        if plain and "/." in url:
            target = URL(url)
        if not fault and target.host:
            return target
    except (ValueError, UnicodeError):
        pass
    raise Refused("refused_address", fault or NO_URL)


def _redirected(target: URL, location: str) -> URL:
    try:
        joined = str(target.join(URL(location, encoded=location.isascii() and " " not in location)))
    except (ValueError, UnicodeError):
        joined = ""
    try:
        return _request_url(joined)
    except Refused as refused:
        raise Refused("refused_address", f"redirected to what is {refused.error}") from None
