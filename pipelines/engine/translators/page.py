"""Pages in which a cluster says what it is, read past any proxy: it is reached as its own machines reach it."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from controlmill.schemas.errors import MillError, error_text

MOST_BYTES = 16 * 1024 * 1024


def read_page(url: str, what: str, seconds: float) -> str:
    """The text at an HTTP address.

    Args:
        url: where.
        what: what is asked, for the error.
        seconds: to wait for each part of the answer.

    Raises:
        MillError: there is no answer.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=seconds) as answer:
            return str(answer.read(MOST_BYTES), "utf-8", "replace")
    except urllib.error.HTTPError as error:
        raise MillError(f"{what} answers {url} with {error.code} {error.reason}: is it the right address?") from error
    except urllib.error.URLError as error:
        raise MillError(
            f"{what} does not answer at {url} ({_reason(error)}): is it running, and reached from here?"
        ) from error
    except ValueError as error:
        raise MillError(f"{url!r} is no address of {what}: write http://HOST:PORT") from error
    except (OSError, http.client.HTTPException) as error:
        raise MillError(f"{what} broke off its answer at {url} ({error_text(error)})") from error


def read_json(url: str, what: str, seconds: float) -> Any:
    """The JSON at an HTTP address; see :func:`read_page`.

    Raises:
        MillError: there is no answer, or it is no JSON.
    """
    try:
        return json.loads(read_page(url, what, seconds))
    except ValueError as error:
        raise MillError(f"what answers at {url} is not {what}: it sends no JSON") from error


def _reason(error: urllib.error.URLError) -> str:
    return error_text(error.reason) if isinstance(error.reason, OSError) else str(error.reason)
