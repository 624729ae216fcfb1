"""A user's own maps: a folder for each condition, in which a map has the path and stem of its picture.

``photos/a/b.jpg`` ↔ ``maps/depth/a/b.png``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pixels import GATE
from controlmill.schemas.maps.meaning import Plane
from controlmill.schemas.maps.planes import read_map

from ..corpora.files import read_capped
from ..corpora.folder import FolderCorpus, parts_below
from ..engine.faults import JobFault
from ..engine.worker import this_worker
from ..stages.import_maps import Import
from ..stages.map_folders import MapFolder, messages_of, not_imported
from .index import Label, LabelIndex, files_below
from .source import IndexedLabels, Labels, MapSource, Parts

OTHER_FILES = 10_000  # of a folder, that are known by name


@dataclass(frozen=True)
class MapsBeside(MapSource):
    """Maps named like their pictures, in the folder ``place``, which has the condition's name."""

    what: ClassVar[str] = "map"
    rule: ClassVar[str] = ": a map has the path and the stem of its picture"

    def open(self) -> Labels:
        """Nothing is listed: the name of a picture is that of its map."""
        return self

    def listed(self) -> IndexedLabels:
        """See :meth:`LabelSource.listed`."""
        endings, index = self._endings(), LabelIndex()
        for path in files_below(self.place, by_path=True):
            if path.endswith(endings):
                index.add(path, path)
        return MapsFound(index, self)

    def read(self, picture: str, max_bytes: int) -> Parts:
        """See :meth:`Labels.read`."""
        return (read_capped(self._find(picture), max_bytes),)

    def plane(self, parts: Parts, limits: Limits) -> Plane:
        """See :meth:`MapSource.plane`."""
        return read_map(parts[0], self.reading, limits, GATE.hold)

    def names_for(self, picture: str) -> Iterator[str]:
        """The names that the map of a picture may have: the first that is there is its map.

        Raises:
            Refused: the picture's name leads out of its corpus.
        """
        base = PurePosixPath(*parts_below(picture))
        return (str(base.with_suffix(ending)) for ending in self._endings())

    def _endings(self) -> tuple[str, ...]:
        endings = MapFolder(self.condition, self.reading).endings
        return (*endings, *(ending.upper() for ending in endings))

    def _find(self, picture: str) -> Path:
        """The map of a picture.

        Raises:
            Refused: missing, with the name of what is there instead.
            JobFault: the folder cannot be read any more.
        """
        maps, endings = FolderCorpus(self.place), MapFolder(self.condition, self.reading).endings
        for name in self.names_for(picture):
            path = Path(self.place, name)
            if path.is_file():
                return path
        base = maps.path(picture)
        fault = maps.explain(FileNotFoundError(base.name))
        if isinstance(fault, JobFault):
            raise fault
        others = this_worker().once("other files", lambda: functools.lru_cache(maxsize=8)(_others_in))
        other = others(str(base.parent), endings).get(base.stem)
        there = f"; {other} is there" if other else ""
        name = f"{os.path.basename(self.place)}/{base.stem}"
        raise Refused("missing", f"no {name} with any of {', '.join(endings)}{there}")

    def input_folders(self) -> tuple[str, ...]:
        """The condition's folder, which may be a link, and the one that it is in."""
        return (os.path.dirname(self.place), self.place)

    def messages(self) -> Iterator[str]:
        """See :meth:`LabelSource.messages`."""
        yield from messages_of(os.path.dirname(self.place), MapFolder(self.condition, self.reading))


@dataclass(frozen=True)
class MapsFound:
    """The maps of a folder; see :class:`source.IndexedLabels`."""

    index: LabelIndex
    maps: MapsBeside

    def find(self, picture: str) -> Label:
        """The map of a picture.

        Raises:
            Refused: missing.
        """
        for name in self.maps.names_for(picture):
            if self.index.has(name, name):
                return self.index.find(name, picture)
        raise Refused("missing", f"no map for {picture}")

    def read(self, picture: str, max_bytes: int) -> Parts:
        """See :meth:`source.Labels.read`."""
        return self.maps.read(picture, max_bytes)


def _others_in(folder: str, endings: tuple[str, ...]) -> dict[str, str]:
    """Stem → name of the files in a folder that are not looked at, the first of them."""
    found: dict[str, str] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() not in endings and len(found) < OTHER_FILES:
                    found.setdefault(stem, entry.name)
    except OSError:
        return {}
    return found


def import_of(folder: str, folders: Sequence[MapFolder], limits: Limits) -> Import:
    """The stage that imports the maps of a folder."""
    sources = [MapsBeside(os.path.join(folder, each.name), each.condition, each.reading) for each in folders]
    return Import(tuple(sources), limits, tuple(not_imported(folder, folders)))
