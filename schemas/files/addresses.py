"""What is at an address: a local folder, or a store that fsspec knows."""

from __future__ import annotations

import os

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..errors import MillError
from .client import Client
from .local_storage import LocalStorage
from .object_store import EXTRAS, ObjectStore
from .storage import Storage


def without_scheme(address: str) -> str:
    """``file:///data`` as the path that it is; any other address, and any path, stays."""
    is_local = address.startswith(tuple(f"{scheme}://" for scheme in LocalFileSystem.protocol))
    return str(LocalFileSystem._strip_protocol(address)) if is_local else address


def open_storage(address: str | os.PathLike[str]) -> Storage:
    """The files below an address; without a scheme it is a path, whatever characters are in it.

    Raises:
        MillError: the address is of no known kind, or the package for its kind is not installed.
    """
    address = os.fspath(address)
    if "://" not in address:
        return LocalStorage(address)
    try:
        fs, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        extra = EXTRAS.get(address.split("://", maxsplit=1)[0])
        install = f" (pip install '.[{extra}]' in ControlMill's checkout)" if extra else ""
        raise MillError(f"{address}: {error}{install}") from error
    except (ValueError, TypeError) as error:  # TypeError: a file system that an address alone does not name
        raise MillError(f"{address}: {error}") from error
    return LocalStorage(root) if isinstance(fs, LocalFileSystem) else ObjectStore(Client(fs, address), root)
