"""What headers of an answer say: that a picture is not for training, and when to come again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

OPT_OUTS = ("noai", "noimageai")
WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")  # directives, not agents
AGENT = "controlmill"


def opt_out(values: Iterable[str]) -> str | None:
    """The directive of ``X-Robots-Tag`` headers by which a picture is not to be taken, for all agents or for ours.

    An agent's name before a directive (``googlebot: noai``) is for that and those that follow in the same header.
    """
    for value in values:
        agent = ""
        for part in value.lower().split(","):
            name, colon, directive = (word.strip() for word in part.partition(":"))
            if colon and name not in WITH_VALUE:
                agent, name = name, directive
            if name in OPT_OUTS and agent in ("", "*", AGENT):
                return name
    return None


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, of a ``Retry-After`` header (seconds, or a date); None where it says none."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value[:12])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
