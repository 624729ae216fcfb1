"""What a listing meets beside the pictures that it lists: counted and noted in bounded memory, to be told to people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

from controlmill.schemas.segments import PassedOverRecord

MOST_KINDS = 10_000  # told apart while counting; dataset.json keeps the most frequent
KINDS_KEPT = 20
NOTES_KEPT = 5


class Counts:
    """How many files there are of each kind (an ending, a folder's name); memory is bounded whatever the names are."""

    def __init__(self) -> None:
        self.files = 0
        self._kinds: Counter[str] = Counter()

    def add(self, kind: str, files: int = 1) -> None:
        """Count some."""
        if not files:
            return
        self.files += files
        if kind in self._kinds or len(self._kinds) < MOST_KINDS:
            self._kinds[kind] += files

    def said(self) -> dict[str, Any]:
        """All of them, and the kinds that most are of."""
        most = sorted(self._kinds.items(), key=lambda item: (-item[1], item[0]))[:KINDS_KEPT]
        return {"files": self.files, "most": dict(most)}


@dataclass
class PassedOver:
    """What a listing met beside the pictures that it lists; kept in the segment, in ``dataset.json``.

    Args:
        texts: files that may be captions.
        metadata: files that say captions of many pictures.
        named: pictures that those name; ``absent`` of them are not there.
        maps: pictures that those name as something else than the photograph (a conditioning image).
        known: pictures that were listed from this corpus before, by their names.
        other: files of other endings, by ending.
        skipped: hidden files, and files in folders that are passed over, by the folder's name.
        again: folders that a link leads to, and that were listed before.
        left_out: the dataset's own folder and those of imported maps, where they are inside the corpus.
        faults: lines or whole files of metadata that are not understood; ``notes`` tell the first.
    """

    texts: int = 0
    metadata: int = 0
    named: int = 0
    absent: int = 0
    maps: int = 0
    known: int = 0
    other: Counts = field(default_factory=Counts)
    skipped: Counts = field(default_factory=Counts)
    again: int = 0
    left_out: list[str] = field(default_factory=list)
    faults: int = 0
    notes: list[str] = field(default_factory=list)

    def leave_out(self, folder: str) -> None:
        """A folder that is not part of the corpus."""
        if len(self.left_out) < NOTES_KEPT:
            self.left_out.append(folder)

    def note(self, text: str) -> None:
        """Something that was not understood."""
        self.faults += 1
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(text)

    def said(self) -> PassedOverRecord:
        """As kept; what there is none of is left out."""
        counted = {name: value.said() if isinstance(value, Counts) else value for name, value in vars(self).items()}
        met = {name: value for name, value in counted.items() if value and value != {"files": 0, "most": {}}}
        return cast(PassedOverRecord, met)
