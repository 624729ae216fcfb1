"""Exceptions that a user is meant to read, and exceptions as text in a row."""

from __future__ import annotations

import re

ADDRESS = re.compile(r"\s*(<[^<>]*)?\b0x[0-9a-fA-F]+>?")
LONGEST = 300  # characters of an exception's text


class MillError(Exception):
    """Bad use, a bad dataset or a job that could not finish. The command line prints it without a traceback."""


class Interrupted(MillError):
    """Ctrl-C, or a signal to end. Everything committed stays."""


class Damaged(MillError):
    """A file of a dataset that is not what was written."""


class Gone(MillError):
    """The dataset was removed while a job worked on it, or the job is over."""


class Refused(Exception):
    """An image (or a map) that is not taken: a reason code, and a text for people."""

    def __init__(self, reason: str, error: str):
        super().__init__(error)
        self.reason = reason
        self.error = error


def error_text(error: BaseException) -> str:
    """An exception in one line, the same in every process: no memory addresses, no paths of a machine."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = ADDRESS.sub("", " ".join(text.split()))
    return f"{type(error).__name__}: {text}"[:LONGEST] if text else type(error).__name__
