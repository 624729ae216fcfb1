"""Text that came from files, names and errors, as a terminal or a card may show it."""

from __future__ import annotations

import unicodedata

# C0, C1 and DEL; bidi and other invisible formats; surrogates (names that are not UTF-8); line separators
CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: object) -> str:
    r"""``str(text)`` in one line whose control characters are spelt out: ``\x1b``, ``\n``, ``\u202e``."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in CONTROLS else char
        for char in line
    )


def counted(count: int, noun: str) -> str:
    """``1 shard``, ``1,024 shards``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable_lines(text: object) -> str:
    """An error's text, which may have lines of its own; those after the first are indented, so that none is faked."""
    first, *more = map(printable, str(text).split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in more)])
