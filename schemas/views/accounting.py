"""What became of every file in a corpus, for people: kept, refused, or not looked at and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..dataset import Dataset
from ..files.shardfile import read_rows
from ..images.formats import HEIF_ENDINGS, reads_heif
from ..records import Entry
from ..tables import IMAGES
from ..terminal.printing import counted, printable

SHOWN = 10  # kinds of files in a line


def accounting(dataset: Dataset) -> list[str]:
    """Lines that account for everything that was listed, or met in listing; captions included.

    Empty while the images are not complete.
    """
    index = dataset.whole_index(IMAGES)
    if index is None:
        return []
    lines = []
    for number, segment in enumerate(dataset.config.segments):
        if segment.retries is not None:  # it is accounted for where its pictures were listed first
            continue
        retries = [again for again in dataset.config.segments if again.retries == number]
        entries = [index.shards[shard] for part in (segment, *retries) for shard in part.range]
        kept = sum(entry.rows for entry in entries)
        refused = sum(sum(entry.reasons.values()) for entry in entries) - sum(again.rows for again in retries)
        listed = [(kept, "kept"), (refused, "refused")]
        lines += passed_over_lines(segment.passed_over or {}, listed, _captions(entries, kept))
        several = sum(entry.several for entry in entries)
        if several:
            lines.append(f"files of several pictures (an animation, pages), of which the first is taken: {several:,}")
    return lines


def _captions(entries: Sequence[Entry], kept: int) -> str:
    counts = [entry.captions for entry in entries if entry.captions]
    given, unread = sum(count.given for count in counts), sum(count.unread for count in counts)
    said = f"captions: {kept - given:,} of {kept:,} pictures have none" if given else "captions: none"
    return f"{said}, {unread:,} of them because it cannot be read" if unread else said


def passed_over_lines(said: Mapping[str, Any], listed: Sequence[tuple[int, str]] = (), captions: str = "") -> list[str]:
    """What a listing passed over, as kept in a segment: one line for all files, then what is to be done about some.

    Args:
        said: of :class:`sources.PassedOver`.
        listed: what became of the files that were listed, as (how many, what).
        captions: how many pictures have one.
    """
    other, skipped = said.get("other", {"files": 0}), said.get("skipped", {"files": 0})
    passed = [
        (said.get("texts", 0) + said.get("metadata", 0), "caption files"),
        (said.get("maps", 0), "that metadata names, but not as the picture"),
        (said.get("known", 0), "in the dataset already"),
        (other["files"], f"not looked at ({_kinds(other)})"),
        (skipped["files"], f"in hidden or skipped folders ({_kinds(skipped)})"),
    ]
    parts = [*listed, *((count, what) for count, what in passed if count)]
    if not parts:
        return []
    became = ", ".join(f"{count:,} {what}" for count, what in parts)
    line = f"{counted(sum(count for count, _ in parts), 'file')}: {became}"
    lines = [f"{line}; {captions}" if captions else line]
    if not reads_heif() and HEIF_ENDINGS & set(other.get("most", ())):
        lines.append("HEIF pictures (.heic, .heif) are read with: pip install '.[heif]'")
    if said.get("again"):
        lines.append(f"links to folders that are listed already, not followed: {said['again']:,}")
    if said.get("left_out"):
        folders = ", ".join(map(printable, said["left_out"]))
        lines.append(f"not part of the corpus (the dataset itself, or maps to import): {folders}")
    if said.get("absent"):
        lines.append(f"metadata names {said['named']:,} pictures, of which {said['absent']:,} are not there")
    if said.get("faults"):
        lines.append(f"{said['faults']:,} lines or files of metadata were not understood:")
        lines += [f"  {printable(note)}" for note in said.get("notes", ())]
    return lines


def _kinds(said: Mapping[str, Any]) -> str:
    most = sorted(said.get("most", {}).items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{printable(kind)} {count:,}" for kind, count in most[:SHOWN]]
    rest = said["files"] - sum(count for _, count in most[:SHOWN])
    return ", ".join(shown + ([f"{rest:,} more"] if rest else []))


def unread_captions(dataset: Dataset, count: int) -> list[str]:
    """The first pictures whose caption could not be read, and why."""
    index = dataset.index(IMAGES)
    lines: list[str] = []
    for shard, entry in enumerate(index.shards if index else ()):
        if len(lines) >= count:
            break
        if entry.captions and entry.captions.unread:
            with dataset.parquet(IMAGES, shard) as parquet:
                lines += [
                    f"  no caption for {printable(row['source'])}: {printable(row['caption_error'])}"
                    for row in read_rows(parquet, ["source", "caption_error"])
                    if row["caption_error"]
                ]
    return lines[:count]
