"""A list of URLs as a corpus: the listing names each picture by its URL's path, and workers download it."""

from __future__ import annotations

import functools
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from controlmill.schemas.errors import Damaged, MillError, Refused, error_text
from controlmill.schemas.files.layout import LayoutCheck

from ..engine.faults import JobFault
from ..engine.worker import this_worker
from .corpus import Corpus, Record, Source
from .download_options import DownloadOptions
from .passed_over import PassedOver
from .places import Places
from .table_layout import check_file, kept_type
from .url_lists import Entry, check_columns, kind_of, read_list, schema_of
from .url_names import Prefix, fault_of

if TYPE_CHECKING:
    from .download import Downloader

LONGEST_SHOWN = 200  # characters of what is no URL


@dataclass(frozen=True)
class UrlCorpus(Corpus):
    """Lists of URLs; ``address`` is a path or a pattern of paths (:class:`places.Places`).

    A source is what :mod:`url_names` calls it; its locator is the whole URL. Sizes are not known.
    """

    kind = "urls"
    downloads: DownloadOptions = DownloadOptions()

    @property
    def places(self) -> Places:
        """The lists."""
        return Places(self.address)

    @property
    def most_at_once(self) -> int:
        """See :attr:`Corpus.most_at_once`."""
        return self.downloads.connections

    def list(self, passed: PassedOver | None = None, leave_out: Iterable[str] = ()) -> Iterator[Source]:
        """Every record, list by list, in their order; what is no URL as one that is refused. See :meth:`Corpus.list`.

        The lists are read twice: names are what is left of the URLs after what all of them begin with.
        """
        passed = PassedOver() if passed is None else passed
        prefix = self._prefix(leave_out)
        for name, entry in self._entries(leave_out):
            fault = entry.fault if entry.url is None else fault_of(entry.url)
            if entry.fault and not fault:
                passed.note(f"{name}, line {entry.number}: {entry.fault}")
            if fault or entry.url is None:
                shown = _shown(entry.url) or f"{name}, line {entry.number}"
                yield Source(shown, columns=self._kept(entry), reason="refused_address", fault=fault or "no URL")
            else:
                yield Source(
                    prefix.name(entry.url), locator=entry.url, caption=entry.caption, columns=self._kept(entry)
                )

    def _entries(self, leave_out: Iterable[str] = ()) -> Iterator[tuple[str, Entry]]:
        for place in self.places.find(leave_out):
            if kind_of(place.name) == ".parquet":
                seen = ("looked at", self.places.root, place.name, place.mark)
                this_worker().once(seen, functools.partial(_look_at, self.places, place.name))
            try:
                with self.places.open(place.name) as file:
                    for entry in read_list(file, place.name, self.columns):
                        yield place.name, entry
            except (OSError, Refused) as error:
                raise MillError(f"{self.places.root}/{place.name} cannot be read: {error_text(error)}") from error

    def _prefix(self, leave_out: Iterable[str]) -> Prefix:
        marks = tuple((place.name, place.mark) for place in self.places.find(leave_out))

        def load() -> Prefix:
            prefix, names = Prefix(), set()
            for name, entry in self._entries(leave_out):
                if entry.url is not None and not fault_of(entry.url):
                    prefix.add(entry.url)
                names.add(name)
            texts = [name for name in sorted(names) if kind_of(name) == ".txt"]
            if texts and prefix.folders is None:  # it may be any text
                raise MillError(f"{texts[0]}: no line is an http(s) URL")
            return prefix

        return this_worker().once((self, marks, "prefix"), load)

    def _kept(self, entry: Entry) -> str | None:
        if not self.columns.kept:
            return None
        return json.dumps({name: entry.row[name] for name in self.columns.names if name in entry.row}, default=str)

    def kept_types(self) -> Mapping[str, str]:
        """The types of a Parquet list's columns, and that tables have them; see :meth:`Corpus.kept_types`."""
        types: dict[str, str] = {}
        for place in self.places.find() if self.columns.kept else ():
            with self.places.open(place.name) as file:
                schema = schema_of(file, place.name)
            if schema is not None:
                check_columns(place.name, schema.names, self.columns.names)
                types |= {field.name: kept_type(field) for field in schema if field.name in self.columns.names}
        return types

    def listed_with(self) -> dict[str, str]:
        """With the rules of refusal: a rerun that had others would mix rows of both."""
        rules = {
            "--allow-private-hosts": self.downloads.allow_private_hosts,
            "--ignore-opt-out": self.downloads.ignore_opt_out,
        }
        return {**super().listed_with(), **{name: "yes" for name, given in rules.items() if given}}

    def nothing_listed(self) -> str:
        """See :meth:`Corpus.nothing_listed`."""
        return f"{self.address}: no URL in this list"

    def begin(self, source: Source, max_bytes: int) -> Future[Record]:
        """Begin to download; see :meth:`Corpus.begin`."""
        return self._downloader().begin(
            source.locator or "", max_bytes, lambda data, claim: Record(data, source.caption, release=claim.release)
        )

    def read(self, source: Source, max_bytes: int) -> Record:
        """Download a picture; see :meth:`Corpus.read`.

        Raises:
            Refused: see :meth:`download.Downloader.begin`.
            JobFault: see there.
        """
        return self.begin(source, max_bytes).result()

    def _downloader(self) -> Downloader:
        def load() -> Downloader:
            from .download import Downloader  # the HTTP library; the console needs none

            return Downloader(self.downloads)

        return this_worker().once(("downloader", self.downloads), load)

    def identity(self, source: Source) -> str:
        """Its URL: its name depends on the other URLs of the lists."""
        return source.locator or source.source

    def is_as_listed(self, source: Source) -> bool:
        """Whether the lists still name its URL."""
        url = source.locator
        return url is not None and bool((self._hashes() == hash(url)).any())

    def _hashes(self) -> Any:
        def load() -> Any:
            # 8 bytes a record; an array of the standard library grows without a copy
            return np.frombuffer(array("q", (hash(entry.url) for _, entry in self._entries())), np.int64)

        return this_worker().once((self, "hashes"), load)

    def explain(self, error: OSError, source: str = "") -> JobFault | Refused:
        """An error that no download makes: a fault of this machine."""
        return JobFault(f"{self.address}: {error_text(error)}; run the same command again to go on")


def _look_at(places: Places, name: str) -> bool:
    """Whether a Parquet file's footer can be true, found out in a process of its own.

    Raises:
        MillError: it cannot.
    """
    with LayoutCheck(check_file) as check:
        try:
            check(places.storage, name)
        except Damaged as error:
            raise MillError(f"{places.root}/{name} cannot be read: {error}") from error
    return True


def _shown(url: str | None) -> str:
    return (url or "").encode("utf-8", "backslashreplace").decode()[:LONGEST_SHOWN]
