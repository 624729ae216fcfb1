"""What goes wrong while networks are loaded is no fault of a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from controlmill.schemas.errors import MillError, error_text

from .faults import JobFault, is_out_of_memory


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Errors of the block stop the job, and say that ``what`` cannot be loaded; memory that runs out stays what it is.

    Raises:
        JobFault: it cannot be loaded.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = str(error) if isinstance(error, MillError) else error_text(error)
        raise JobFault(f"{what} cannot be loaded: {text}") from error
