"""Tar archives as a corpus, by the rules of WebDataset: how they are listed, and how their members are read.

Members that follow one another and have the same key are a sample: one picture, its caption, its metadata. The key is
the path up to the first dot of its last part, the ending is what follows. Nothing is unpacked: the listing says where
in its archive a picture is, and a worker reads those bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlmill.schemas.errors import MillError, Refused, error_text
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.images.formats import picture_endings

from .archives import ArchiveCorpus, located, named, refused
from .captions import ENDINGS, MAX_BYTES, caption_keys, caption_of_file, first_caption, json_object
from .corpus import Record, Source
from .folder import MAX_CAPTION_ERROR
from .not_downloaded import not_downloaded
from .passed_over import PassedOver
from .places import Place
from .table_layout import check_file
from .tar_members import Member, members

LONGEST_ENDING = 16
MAX_SAMPLE = 256  # members of one sample that are looked at
GAP = 64 * 1024  # bytes between a picture and its caption that are read rather than asked for twice
WHERE = re.compile(r"(\d{1,16})\+(\d{1,16})((?: \.[a-z]+:\d{1,16}\+\d{1,16})*)")
TEXT = re.compile(r" (\.[a-z]+):(\d+)\+(\d+)")
Text = tuple[str, int, int]  # how a member is read (as .txt, .caption or .json), where it is, its bytes


@dataclass(frozen=True)
class TarCorpus(ArchiveCorpus):
    """Uncompressed archives; ``address`` is a path or a pattern of paths (:class:`places.Places`).

    A source is a member's name. Its locator says where picture and texts are, as ``START+SIZE .txt:START+SIZE…
    @ARCHIVE``.
    """

    kind = "tar"

    def list(self, passed: PassedOver | None = None, leave_out: Iterable[str] = ()) -> Iterator[Source]:
        """The picture of each sample, tar by tar, and after a tar's what img2dataset did not download for it."""
        passed = PassedOver() if passed is None else passed
        with LayoutCheck(check_file) as check:
            for place in self.places.find(leave_out):
                yield from self._pictures(place, passed)
                yield from not_downloaded(self.places, place, check)

    def _pictures(self, place: Place, passed: PassedOver) -> Iterator[Source]:
        """The picture of each sample of an archive."""
        key, sample = None, dict[str, Member]()
        try:
            with self.places.open(place.name) as file:
                try:
                    for member in members(file, place.size):
                        part = self._part(member, passed)
                        if part is None:
                            continue
                        if part[0] != key:
                            yield from self._sample(place, sample, passed)
                            key, sample = part[0], {}
                        if part[1] in sample or len(sample) == MAX_SAMPLE:
                            yield from self._again(member, passed)
                        else:
                            sample[part[1]] = member
                except ValueError as error:
                    passed.note(f"{place.name}: {error}; what follows is not read")
        except OSError as error:
            why = error.strerror or error_text(error)
            raise MillError(f"{self.places.root}/{place.name} cannot be read: {why}") from error
        yield from self._sample(place, sample, passed)

    def _part(self, member: Member, passed: PassedOver) -> tuple[str, str] | None:
        """(key, ending) of a member of a sample; anything else is counted."""
        folder, _, name = member.name.rpartition("/")
        stem, dot, ending = name.partition(".")
        if member.kind == "folder":
            return None
        if member.kind != "file":
            passed.other.add(member.kind)
        elif re.match(r"__[^/]*__($|/)", member.name):
            passed.skipped.add("__…__")
        elif not stem:
            passed.skipped.add("hidden files")
        elif not dot:
            passed.other.add("no ending")
        else:
            return f"{folder}/{stem}", ending.lower()
        return None

    def _again(self, member: Member, passed: PassedOver) -> Iterator[Source]:
        """A second member of the same name in a sample."""
        ending = os.path.splitext(member.name)[1].lower()
        if ending in picture_endings():
            yield refused(named(member.name, member.size), "duplicate", "an earlier member of its sample has this name")
        else:
            _count(passed, ending)

    def _sample(self, place: Place, sample: Mapping[str, Member], passed: PassedOver) -> Iterator[Source]:
        """The source of a sample; what else is in it is counted."""
        if not sample:
            return
        ending = self._picture(sample)
        texts = dict(self._texts(sample, ending))
        passed.texts += len(texts)
        for other in sample.keys() - {ending, *texts}:
            _count(passed, f".{other}")
        if ending is None:
            return
        member = sample[ending]
        source = named(member.name, member.size)
        if not source.fault and member.start + member.size > place.size:
            source = refused(source, "truncated", "its archive ends before it does")
        said = "".join(f" {kind}:{sample[text].start}+{sample[text].size}" for text, kind in texts.items())
        locator = f"{member.start}+{member.size}{said} @{place.name}"
        yield source._replace(locator=locator, etag=place.mark)

    def _picture(self, sample: Mapping[str, Member]) -> str | None:
        """The ending of a sample's picture: the chosen one, else the first that is of a picture, the shortest first."""
        if self.columns.image:
            wanted = self.columns.image.lower().removeprefix(".")
            return wanted if wanted in sample else None
        pictures = [ending for ending in sample if f".{ending.rpartition('.')[2]}" in picture_endings()]
        return min(pictures, key=lambda ending: ending.count("."), default=None)

    def _texts(self, sample: Mapping[str, Member], picture: str | None) -> Iterator[tuple[str, str]]:
        """(ending, what it is read as) of members that may say the caption, in the order in which they are asked."""
        chosen = (self.columns.caption or "").lower()
        if chosen in sample:
            yield chosen, ".json" if chosen.endswith("json") else ".txt"
        for kind in ENDINGS:
            if chosen and kind != ".json":
                continue
            for ending in (f"{picture}{kind}", kind[1:]):
                if ending in sample and ending != chosen:
                    yield ending, kind

    def nothing_listed(self) -> str:
        """See :meth:`Corpus.nothing_listed`."""
        if self.columns.image:
            return f"{self.address}: no member of these archives ends in .{self.columns.image.removeprefix('.')}"
        endings = " ".join(sorted(picture_endings()))
        return f"{self.address}: no pictures in these archives; members that count end in {endings}"

    def read(self, source: Source, max_bytes: int) -> Record:
        """A member and what its sample says of it; see :meth:`Corpus.read`.

        Raises:
            Refused: missing, unreadable, changed or too_many_bytes.
            JobFault: the archive cannot be read any more.
        """
        archive, (start, size), texts = _located(source)
        if size > max_bytes:
            raise Refused("too_many_bytes", f"{size} bytes; the cap is {max_bytes}")
        wanted = [(start, size), *((place, min(length, MAX_BYTES + 1)) for _, place, length in texts)]
        try:
            data, *said = self._bytes(archive, wanted, source.etag)
        except OSError as error:
            raise self.explain(error, source.source) from error
        if len(data) != size:
            raise Refused("changed", f"its archive has {len(data)} of its {size} bytes now")
        fields = _fields(texts, said) if self.columns.kept else {}
        try:
            return Record(data, self._caption(texts, said), columns=fields)
        except ValueError as error:
            return Record(data, caption_error=" ".join(str(error).split())[:MAX_CAPTION_ERROR], columns=fields)

    def _bytes(self, archive: str, wanted: Sequence[tuple[int, int]], mark: str | None) -> tuple[bytes, ...]:
        """Several stretches of an archive, by one request where they lie together."""
        first, last = min(wanted)[0], max(start + size for start, size in wanted)
        if last - first <= sum(size for _, size in wanted) + GAP:
            whole = memoryview(self.places.read(archive, first, last, mark))
            return tuple(bytes(whole[start - first :][:size]) for start, size in wanted)
        return tuple(self.places.read(archive, start, start + size, mark) for start, size in wanted)

    def _caption(self, texts: Sequence[Text], said: Sequence[bytes]) -> str | None:
        """The first text that says something. JSON without a caption is of something else here, and no error.

        Raises:
            ValueError: one before it cannot be read.
        """
        for (kind, _, _), data in zip(texts, said, strict=True):
            try:
                fields = json_object(data) if kind == ".json" else None
                if fields is None:
                    caption = caption_of_file(data, kind == ".json")
                elif self.columns.caption:
                    caption = first_caption(fields, [name for name in fields if name == self.columns.caption])
                else:
                    caption = first_caption(fields, caption_keys(fields))
            except ValueError as error:
                raise ValueError(f"{kind} member: {error}") from error
            if caption:
                return caption
        return None


def _located(source: Source) -> tuple[str, tuple[int, int], list[Text]]:
    """(archive, where the picture is in it, where texts are) of a locator.

    Raises:
        Refused: it is none.
    """
    where, archive = located(source)
    found = WHERE.fullmatch(where)
    if found is None:
        raise Refused("missing", "the listing does not say where in its archive it is")
    texts = [(kind, int(start), int(size)) for kind, start, size in TEXT.findall(found[3])]
    return archive, (int(found[1]), int(found[2])), texts[: len(ENDINGS) * 2]


def _count(passed: PassedOver, ending: str) -> None:
    passed.other.add(ending if len(ending) <= LONGEST_ENDING and ending.isprintable() else "other")


def _fields(texts: Sequence[Text], said: Sequence[bytes]) -> dict[str, Any]:
    """The fields of a sample's JSON objects, the first one's before the next one's."""
    found: dict[str, Any] = {}
    for (kind, _, _), data in zip(texts, said, strict=True):
        found = {**((kind == ".json" and json_object(data)) or {}), **found}
    return found
