"""What a file says beside its pixels and Pillow does not pass on: the chunks of a PNG, the boxes of an AVIF or HEIF.

Sources: the PNG specification, third edition (cICP, sBIT, eXIf…); ISO/IEC 14496-12 and 23008-12 (boxes, ``colr``).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import Refused

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_READ = (b"IHDR", b"cICP", b"iCCP", b"sBIT", b"eXIf")
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
MOST_TEXT = 1 << 20  # unfolded bytes: Pillow reads so much of a chunk, and raises for more
MOST_DEFLATED = 1032  # bytes that a byte of deflate unfolds to at most
BOX_HEADERS = {b"meta": 4, b"stsd": 8, b"av01": 78, b"hvc1": 78, b"hev1": 78}  # bytes before the boxes inside
BOXES_INSIDE = (b"meta", b"iprp", b"moov", b"trak", b"mdia", b"minf", b"stbl", *BOX_HEADERS)


@dataclass(frozen=True)
class Png:
    """A PNG whose checksums are right. ``data`` is the file without what Pillow would stumble over."""

    data: bytes
    chunks: dict[bytes, bytes]

    @property
    def bits(self) -> int:
        """Of a sample."""
        return self.chunks[b"IHDR"][8]

    @property
    def channels(self) -> int:
        """Samples of a pixel; a palette's index is one."""
        return {2: 3, 4: 2, 6: 4}.get(self.chunks[b"IHDR"][9], 1)


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height), from the first chunk alone.

    Raises:
        Refused: truncated, where the first chunk is no header.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise Refused("truncated", "the PNG does not begin with its header")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def read_png(data: bytes) -> Png:
    """All chunks, each with its checksum compared: Pillow leaves out those of the pixels.

    Texts that could unfold to more than Pillow reads are cut out: they say nothing of the picture.

    Raises:
        Refused: truncated, where a checksum is wrong or the end is missing.
    """
    view = memoryview(data)
    chunks: dict[bytes, bytes] = {}
    texts: list[tuple[int, int]] = []
    unfolded, start, kind = 0, len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(view[start : start + 4])
        end = start + 12 + length
        if end > len(data) or start + 12 > len(data):
            raise Refused("truncated", "the PNG ends before its last chunk")
        kind = bytes(view[start + 4 : start + 8])
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise Refused("truncated", f"the checksum of the PNG's {ascii(kind)[2:-1]} chunk is wrong")
        if kind in PNG_READ:
            chunks.setdefault(kind, bytes(view[start + 8 : end - 4]))
        elif kind in PNG_TEXT:
            texts.append((start, end))
            unfolded += length * (1 if kind == b"tEXt" else MOST_DEFLATED)
        start = end
    if len(chunks.get(b"IHDR", b"")) < 13:
        raise Refused("truncated", "the PNG does not begin with its header")
    if _unfolds_beyond(chunks.get(b"iCCP", b""), MOST_TEXT):
        raise Refused("unsupported_mode", f"its colour profile has more than {MOST_TEXT} bytes")
    return Png(_without(data, texts) if unfolded > MOST_TEXT else data, chunks)


def _unfolds_beyond(profile: bytes, most: int) -> bool:
    """Whether an iCCP chunk's profile is larger than ``most`` bytes; a damaged one is not."""
    try:
        unpacker = zlib.decompressobj()
        unpacker.decompress(profile.partition(b"\0")[2][1:], most)
    except zlib.error:
        return False
    return bool(unpacker.unconsumed_tail)


def _without(data: bytes, parts: list[tuple[int, int]]) -> bytes:
    kept, at = [], 0
    for start, end in parts:
        kept.append(data[at:start])
        at = end
    return b"".join((*kept, data[at:]))


def check_boxes(data: bytes) -> None:
    """Raise Refused, truncated, where an AVIF or HEIF ends before its pixels do: decoders fill what is missing."""
    start = 0
    while start + 16 <= len(data):
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        if size == 1:
            (size,) = struct.unpack(">Q", data[start + 8 : start + 16])
        if kind in (b"meta", b"mdat", b"moov") and start + size > len(data):
            raise Refused("truncated", f"{start + size} bytes by its boxes, of which {len(data)} are there")
        if size < 8:
            return  # to the end of the file, or no boxes any more
        start += size


def boxed_colour(data: bytes) -> tuple[int, int] | None:
    """(primaries, transfer), by ISO/IEC 23091-2, of an AVIF's or HEIF's primary picture; None where it has none."""
    try:
        properties, primary, numbers = [], 0, {}
        for kind, start, end in _boxes(data, 0, len(data)):
            if kind == b"pitm":
                primary = int.from_bytes(data[start + 4 : start + (6 if data[start] == 0 else 8)])
            elif kind == b"ipco":
                properties = list(_boxes(data, start, end))
            elif kind == b"ipma":
                numbers = _associations(data, start)
        own = [properties[number - 1] for number in numbers.get(primary, ()) if 0 < number <= len(properties)]
        # a sequence without a primary picture says it in its track
        found = own or [box for box in _boxes(data, 0, len(data)) if box[0] == b"colr"]
    except (struct.error, IndexError):
        return None
    for kind, start, end in found:
        if kind == b"colr" and data[start : start + 4] == b"nclx" and end - start >= 8:
            primaries, transfer = struct.unpack(">HH", data[start + 4 : start + 8])
            return primaries, transfer
    return None


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of what each box holds, and of the boxes in those that hold boxes."""
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", data[start + 8 : start + 16]), 16
        stop = min(start + size, end) if size else end
        if stop < start + head:
            return
        yield kind, start + head, stop
        if kind in BOXES_INSIDE:
            yield from _boxes(data, start + head + BOX_HEADERS.get(kind, 0), stop)
        start = stop


def _associations(data: bytes, start: int) -> dict[int, list[int]]:
    """Item → numbers of its properties, from 1, as an ``ipma`` box lists them."""
    wide_item, wide_number = data[start] > 0, data[start + 3] & 1
    (count,) = struct.unpack(">I", data[start + 4 : start + 8])
    at, found = start + 8, {}
    for _ in range(min(count, len(data))):
        item = int.from_bytes(data[at : at + (4 if wide_item else 2)])
        at += 4 if wide_item else 2
        numbers, at = data[at], at + 1
        step = 2 if wide_number else 1
        found[item] = [
            int.from_bytes(data[p : p + step]) & (0x7FFF if wide_number else 0x7F)
            for p in range(at, at + numbers * step, step)
        ]
        at += numbers * step
    return found
