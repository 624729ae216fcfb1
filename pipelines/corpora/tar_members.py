"""The members of a tar archive, found by their headers alone; nothing is unpacked.

Headers are those of POSIX (ustar, pax) and GNU tar. ``tarfile`` decodes a header; going from one to the next is done
here, because an archive may come from anybody: ``tarfile`` allocates what a header claims, follows one that leads back,
and calls itself for every header before a member (Python 3.11).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = tarfile.BLOCKSIZE
MAX_EXTENDED = 1024 * 1024  # bytes of a header beside a member's own: long names, attributes
MAX_NAME = 4096
LARGEST = 2**53
SAID_OF_NEXT = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
KINDS = {
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.DIRTYPE: "folder",
    tarfile.GNUTYPE_SPARSE: "sparse file",
}


@dataclass(frozen=True)
class Member:
    """A member: its name (bytes that are not UTF-8 as surrogates), what it is, and where its bytes are.

    ``kind`` is ``file``, or one of :data:`KINDS`, or ``unknown``.
    """

    name: str
    kind: str
    start: int
    size: int


def members(file: BinaryIO, size: int) -> Iterator[Member]:
    """The members of an archive of ``size`` bytes, in their order. The last one may end after the archive does.

    Raises:
        ValueError: what follows is no header, or one that cannot be; with its place.
        OSError: the archive cannot be read.
    """
    position, said = 0, dict[str, str]()
    while position < size:
        file.seek(position)
        block = file.read(BLOCK)
        if len(block) == BLOCK and not block.strip(b"\0"):
            _check_end(file, position)
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise ValueError(f"no header of a member at byte {position:,} ({error})") from error
        start = position + BLOCK
        if header.type in SAID_OF_NEXT or header.type == tarfile.XGLTYPE:
            if not 0 <= header.size <= MAX_EXTENDED:
                raise ValueError(f"the header at byte {position:,} says that it has {header.size:,} bytes")
            if header.type != tarfile.XGLTYPE:  # what all members share says no name
                said.update(_said(header.type, file.read(header.size)))
            position = start + _blocks(header.size)
            continue
        length = _size(said, header.size)
        if not 0 <= length <= LARGEST:
            raise ValueError(f"the member at byte {position:,} says that it has {length:,} bytes")
        if header.type == tarfile.GNUTYPE_SPARSE:
            start += _sparse_blocks(file, block)
        stored = length if header.type not in KINDS or header.type == tarfile.GNUTYPE_SPARSE else 0
        yield Member(said.get("path", header.name)[:MAX_NAME], _kind(header, said), start, length)
        position, said = start + _blocks(stored), {}
    raise ValueError("it has no end mark: it may have been cut off")


def _kind(header: tarfile.TarInfo, said: dict[str, str]) -> str:
    if "sparse" in said:
        return "sparse file"
    known = (*tarfile.REGULAR_TYPES, tarfile.AREGTYPE)
    return KINDS.get(header.type) or ("file" if header.type in known else "unknown")


def _said(kind: bytes, data: bytes) -> dict[str, str]:
    """What an extended header says of the member after it."""
    if kind == tarfile.GNUTYPE_LONGLINK:
        return {}
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")}
    found: dict[str, str] = {}
    start = 0
    while start < len(data) and data[start]:
        length, space, _ = data[start : start + 20].partition(b" ")
        end = start + int(length) if space and length.isdigit() else 0
        if not start + len(length) + 2 < end <= len(data):
            raise ValueError("an extended header whose records have no length")
        key, _, value = data[start + len(length) + 1 : end].removesuffix(b"\n").partition(b"=")
        if key in (b"path", b"size"):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        elif key.startswith(b"GNU.sparse"):
            found["sparse"] = "yes"
        start = end
    return found


def _size(said: dict[str, str], size: int) -> int:
    stated = said.get("size", "")
    return int(stated) if stated.isdecimal() and len(stated) < 20 else size


def _sparse_blocks(file: BinaryIO, block: bytes) -> int:
    """Bytes of the blocks that follow a GNU header with the map of its holes."""
    count = 0
    more = block[482:483]
    while more not in (b"", b"\0"):
        block = file.read(BLOCK)
        more, count = block[504:505], count + 1
    return count * BLOCK


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _check_end(file: BinaryIO, position: int) -> None:
    """Archives that were put one after another are one to cat, not to tar."""
    if file.read(2 * tarfile.RECORDSIZE).strip(b"\0"):
        raise ValueError(f"more follows after its end at byte {position:,} (archives put one after another?)")
