"""The kinds of corpora, and which one an address is. A new kind is a module of its own and a row here."""

from __future__ import annotations

from controlmill.schemas.errors import MillError

from .corpus import Corpus
from .folder import FolderCorpus

KINDS: dict[str, type[Corpus]] = {kind.kind: kind for kind in (FolderCorpus,)}


def open_corpus(address: str) -> Corpus:
    """The corpus at an address: today always a folder. Nothing is read yet."""
    return FolderCorpus(address)


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
