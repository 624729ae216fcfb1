"""The client of a store, such that whatever it raises is an OSError."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import MillError, Refused, error_text


class Client:
    """A file system of fsspec, or a file that it opened. Its own exceptions become OSErrors.

    They are EIO, with the address and what the client says; an OSError that the client raises stays as it is.
    """

    def __init__(self, wrapped: Any, address: str) -> None:
        self._wrapped = wrapped
        self._address = address

    def __reduce__(self) -> tuple[type[Client], tuple[Any, str]]:
        return Client, (self._wrapped, self._address)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **settings: Any) -> Any:
            with _speaking_of(self._address):
                result = found(*arguments, **settings)
            return Client(result, self._address) if name == "open" else result

        return call

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _speaking_of(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, MillError, Refused, MemoryError):
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{address}: {error_text(error)}") from error
