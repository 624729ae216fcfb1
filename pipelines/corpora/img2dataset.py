"""What img2dataset says of URLs that it could not take: they are listed, and refused with a reason."""

from __future__ import annotations

STATUS = ("status", "error_message")  # columns of its tables
SUCCESS = "success"
REASONS = (  # what a message holds, in lower case → the reason; the first that fits
    ("x-robots-tag", "opted_out"),
    ("disallowed", "opted_out"),
    ("timed out", "timeout"),
    ("timeout", "timeout"),
    ("too many redirects", "too_many_redirects"),
    ("http error", "http_error"),
)


def refusal(status: str | None, message: str | None) -> tuple[str, str]:
    """(reason, text) of a row whose status is not ``success``."""
    said = " ".join((message or status or "it says nothing of it").split())[:300]
    fault = f"img2dataset: {said}"
    if status == "failed_to_resize":
        return "not_an_image", fault
    return next((reason for words, reason in REASONS if words in said.lower()), "http_error"), fault
