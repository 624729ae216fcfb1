"""What kinds of corpora share whose pictures are in files that hold many: archives and tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

from controlmill.schemas.errors import Refused, error_text

from ..engine.faults import JobFault
from .corpus import Corpus, Source
from .folder import NOT_OF_A_FILE
from .places import Places
from .walk import NOT_UTF8

LOCATOR = re.compile(r"(.+?) @(.+)", re.DOTALL)
CLIMBS = "its name leads out of the corpus"


@dataclass(frozen=True)
class ArchiveCorpus(Corpus):
    """Files at an address (:class:`places.Places`), each with many pictures.

    A source's locator is ``WHERE @FILE``, and its etag is that of the file.
    """

    @property
    def places(self) -> Places:
        """The files."""
        return Places(self.address)

    def is_as_listed(self, source: Source) -> bool:
        """Whether the file is the one that was listed, by its size and time (of a store, its etag)."""
        try:
            place = self.places.look_at(located(source)[1])
        except (OSError, Refused):
            return False
        return place is not None and place.mark == source.etag

    def explain(self, error: OSError, source: str = "") -> JobFault | Refused:
        """A file that is gone, or a store that does not answer, is no fault of a picture; a bad sector is."""
        local = self.places.storage.local
        if local and not isinstance(error, FileNotFoundError | PermissionError) and error.errno not in NOT_OF_A_FILE:
            return Refused("unreadable", error_text(error))
        return JobFault(
            f"{self.address}: a file cannot be read any more ({error.strerror or error}): "
            "when it can, run the same command again"
        )


def located(source: Source) -> tuple[str, str]:
    """(where in its file a source is, the file's name).

    Raises:
        Refused: its locator does not say that.
    """
    found = LOCATOR.fullmatch(source.locator or "")
    if found is None:
        raise Refused("missing", "the listing does not say where it is")
    return found[1], found[2]


def below(name: str) -> str:
    """A name in an archive or table as a path below it, without a ``/`` or ``./`` before it, as tar does."""
    return re.sub(r"^(\.?/+)+", "", name)


def named(name: str, size: int | None = None) -> Source:
    """A source by the name that an archive gives it, :func:`below` it; refused where that leads anywhere else."""
    name = below(name)
    try:
        name.encode()
    except UnicodeEncodeError:
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return refused(Source(name, size=size), "missing", NOT_UTF8)
    source = Source(name, size=size)
    return refused(source, "bad_name", CLIMBS) if ".." in name.split("/") else source


def refused(source: Source, reason: str, fault: str) -> Source:
    """A source that the listing knows cannot be taken."""
    return source._replace(reason=reason, fault=fault)
