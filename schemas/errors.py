"""The one exception a user is meant to read: it says what was wrong, where, and what to do."""

from __future__ import annotations


class MillError(Exception):
    """Bad use, a bad dataset or a job that could not finish. The command line prints it without a traceback."""
