"""What an error of a download means: for its picture, which is refused or asked for again, or for the whole job."""

from __future__ import annotations

import errno
import http
import socket

import aiohttp

from controlmill.schemas.errors import Refused

from ..engine.faults import JobFault
from .network import CODES

NO_URL = "no URL that can be asked for"
PRIVATE = "its host is not at a public address; --allow-private-hosts allows it"
NOT_OF_A_HOST = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
LASTING: tuple[tuple[type[aiohttp.ClientError], str, str], ...] = (  # error → reason and text of a refusal
    (aiohttp.InvalidURL, "refused_address", NO_URL),
    (aiohttp.ClientConnectorCertificateError, "http_error", "its host's certificate is not valid"),
    (aiohttp.ClientConnectorSSLError, "http_error", "no secure connection can be agreed on"),
    (aiohttp.ClientResponseError, "http_error", "the answer is not HTTP"),
)


class NotPublic(OSError):
    """A connection to an address that is not public."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, PRIVATE)


class MayPass(Exception):
    """What may go better another time, or else is refused.

    Args:
        refused: as what.
        after: seconds that the server asks to wait.
        is_of_network: whether it may be this machine's network that is down.
    """

    def __init__(self, refused: Refused, after: float | None = None, is_of_network: bool = False) -> None:
        super().__init__(refused.error)
        self.refused = refused
        self.after = after
        self.is_of_network = is_of_network


def meaning(error: aiohttp.ClientError) -> Refused | MayPass | JobFault:
    """What an error of aiohttp is to be raised as. Texts are ours, so that they are the same each time."""
    cause = getattr(error, "os_error", None)
    code = getattr(error, "errno", None)
    if code in NOT_OF_A_HOST:
        return JobFault(
            f"no more connections can be opened ({errno.errorcode[code]}): choose fewer --connections, or raise the "
            "limit (ulimit -n)"
        )
    lasting = next((Refused(reason, text) for kind, reason, text in LASTING if isinstance(error, kind)), None)
    if isinstance(cause, NotPublic):
        lasting = Refused("refused_address", PRIVATE)
    elif isinstance(error, aiohttp.ClientConnectorDNSError) and code == socket.EAI_NONAME:
        lasting = Refused("http_error", "its host has no address")
    return lasting or MayPass(_passing(error, code), is_of_network=code in CODES)


def _passing(error: aiohttp.ClientError, code: int | None) -> Refused:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Refused("http_error", "its host's address cannot be found out")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Refused("http_error", "the answer ended before it was whole, or is not coded as it says")
    if code == errno.ETIMEDOUT:
        return Refused("timeout", "the connection timed out")
    return Refused("http_error", f"the connection failed ({errno.errorcode.get(code or 0, type(error).__name__)})")


def status_text(status: int) -> str:
    """A status in the standard's words: the server's own could be anything."""
    phrase = next((known.phrase for known in http.HTTPStatus if known == status), "")
    return f"{status} {phrase}".strip()
