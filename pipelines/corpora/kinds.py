"""The kinds of corpora, and which one an address is. A new kind is a module of its own and a row here."""

from __future__ import annotations

import os
import posixpath

from controlmill.schemas.errors import MillError

from .columns import Columns
from .corpus import Corpus
from .folder import FolderCorpus
from .hub import SCHEME, pinned, with_pattern
from .parquet import ParquetCorpus
from .store import StoreCorpus
from .tar import TarCorpus

KINDS: dict[str, type[Corpus]] = {kind.kind: kind for kind in (FolderCorpus, StoreCorpus, TarCorpus, ParquetCorpus)}
BY_ENDING: dict[str, type[Corpus]] = {".tar": TarCorpus, ".parquet": ParquetCorpus}
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")


def open_corpus(address: str, columns: Columns = Columns()) -> Corpus:  # noqa: B008 it is frozen
    """The corpus at an address: a folder, or by its ending another kind.

    Nothing is read yet, but where the address is on the Hub: then it is the commit of now (:func:`hub.pinned`).

    Raises:
        MillError: files of a kind that is not read; or the Hub does not answer.
    """
    if address.startswith(SCHEME):
        address = pinned(address)
        address = address if posixpath.splitext(address)[1].lower() in BY_ENDING else with_pattern(address)
    if "://" not in address and os.path.isdir(address):
        return FolderCorpus(address, columns)
    if address.lower().endswith(COMPRESSED):
        raise MillError(
            f"{address}: in a compressed archive a picture has no place that it can be read from: "
            "unpack it first (gunzip, zstd -d…), the archive itself can stay as it is"
        )
    kind = BY_ENDING.get(posixpath.splitext(address)[1].lower(), StoreCorpus if "://" in address else FolderCorpus)
    return kind(address, columns)


def absolute(address: str) -> str:
    """An address that is the same from any working directory."""
    return address if "://" in address else os.path.abspath(address)


def check_kind(kind: str, address: str) -> None:
    """Whether this version knows the kind of corpus that a dataset's segment was listed from.

    Raises:
        MillError: it does not; ``address`` is that of the dataset.
    """
    if kind not in KINDS:
        raise MillError(
            f"{address} was listed from a corpus of kind {kind}, which this ControlMill does not read "
            f"(it reads {', '.join(KINDS)}): use the one that made it"
        )
