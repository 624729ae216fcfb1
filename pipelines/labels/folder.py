"""Labels in files of their own, one or several for each picture, in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.meaning import Plane

from ..corpora.files import read_capped
from ..corpora.folder import FolderCorpus
from ..engine.faults import JobFault
from .index import Label, LabelIndex, files_below, key_of
from .layout import Layout
from .source import LabelSource, MapSource, Parts


@dataclass(frozen=True)
class FolderLabels(LabelSource):
    """Labels as a layout of files says."""

    layout: Layout

    def open(self) -> FilesFound:
        """List the folder."""
        folder = Path(os.path.abspath(self.place))
        if not folder.is_dir():
            raise MillError(f"{self.place}: no such folder")
        index = LabelIndex()
        for path in files_below(str(folder)):
            key = key_of(self.layout.label, f"{folder.name}/{path}")
            if key is not None:
                index.add(key, path)
        return FilesFound(index, FolderCorpus(str(folder)), self.layout)

    def messages(self) -> Iterator[str]:
        """See :meth:`LabelSource.messages`."""
        yield f"{self.condition.table}: {self.layout.summary}, from {self.place}"


@dataclass(frozen=True)
class FilesFound:
    """The labels of a folder; see :class:`source.Labels`."""

    index: LabelIndex
    folder: FolderCorpus
    layout: Layout

    def find(self, picture: str) -> Label:
        """The label of a picture.

        Raises:
            Refused: missing, ambiguous.
        """
        key = key_of(self.layout.picture, picture)
        if key is None:
            raise Refused("missing", f"{self.layout.name} has no picture of such a name")
        return self.index.find(key, picture)

    def read(self, picture: str, max_bytes: int) -> Parts:
        """See :meth:`source.Labels.read`."""
        path = self.find(picture).path
        paths = [path, *(_replaced_end(path, ending, other) for ending, other in self.layout.also)]
        return tuple(self._read(path, max_bytes) for path in paths)

    def _read(self, path: str, max_bytes: int) -> bytes:
        try:
            return read_capped(self.folder.path(path), max_bytes)
        except OSError as error:
            fault = self.folder.explain(error, path)
            if isinstance(fault, JobFault):
                raise fault from error
            raise Refused(fault.reason, f"{path}: {fault.error}") from error


def _replaced_end(path: str, ending: str, other: str) -> str:
    return path.removesuffix(ending) + other


@dataclass(frozen=True)
class FolderMaps(FolderLabels, MapSource):
    """Labels in files that are maps, which the layout decodes."""

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        return {**super().made_by(), "params": {"layout": self.layout.name}}

    def plane(self, parts: Parts, limits: Limits) -> Plane:
        """See :meth:`MapSource.plane`."""
        return self.layout.decode(parts, self.reading, limits)
