"""Large JSON from elsewhere, one element of an array at a time: annotations of a dataset have hundreds of megabytes.

Memory is bounded by the largest element that is allowed, whatever the file's size.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, NoReturn

CHUNK = 1 << 20  # bytes
MAX_ELEMENT = 4 << 20  # characters; a crowd's outline in COCO has some 100,000
SPACE = " \t\n\r"


def elements(file: BinaryIO, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """(name, element) of the arrays ``names`` of the object that a JSON file is, in the file's order.

    Everything else in it is passed over.

    Raises:
        ValueError: not a JSON object in UTF-8, an element that is too large or nested too deep, or a number that is
            none; the text says which.
    """
    text = _Text(file)
    text.expect("{")
    if text.peek() == "}":
        return
    while True:
        name = text.value()
        if not isinstance(name, str):
            raise ValueError("a name in the outermost object is no text")
        text.expect(":")
        if text.peek() == "[":
            yield from ((name, element) for element in text.array() if name in names)
        else:
            text.value()
        if text.next_of(",}") == "}":
            return


class _Text:
    """The characters of a file that are being looked at."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=_no_number)
        self._held, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in SPACE:
                    return self._held[self._at]
                self._at += 1
            if not self._more():
                return ""

    def next_of(self, characters: str) -> str:
        """The next character, which must be one of some."""
        found = self.peek()
        if not found or found not in characters:
            what = f"{found!r} stands" if found else "it ends"
            raise ValueError(f"not JSON: {what} where {' or '.join(characters)} should be")
        self._at += 1
        return found

    def expect(self, character: str) -> None:
        """Pass over a character that must be there."""
        self.next_of(character)

    def array(self) -> Iterator[Any]:
        """The elements of the array that comes."""
        self.expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self.next_of(",]") == "]":
                return

    def value(self) -> Any:
        """The whole value that comes."""
        self.peek()
        while True:
            try:
                found, end = self._json.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise ValueError(f"not JSON: {error.msg}") from None
            except RecursionError:
                raise ValueError("nested too deep") from None
            else:
                if end < len(self._held) or self._ended:  # a number may go on in what comes
                    self._at = end
                    return found
            if len(self._held) - self._at > MAX_ELEMENT:
                raise ValueError(f"an element of more than {MAX_ELEMENT:,} characters, or not JSON")
            self._more()

    def _more(self) -> bool:
        """Take in more of the file; False at its end."""
        if self._ended:
            return False
        data = self._file.read(CHUNK)
        self._held = self._held[self._at :] + self._decoder.decode(data, final=not data)
        self._at, self._ended = 0, not data
        return True


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
