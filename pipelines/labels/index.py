"""Which label is a picture's: labels by their key, on disk, so that memory does not grow with them."""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from controlmill.schemas.errors import MillError, Refused

from ..corpora.files import MAKE_ROOM
from ..corpora.walk import is_skipped

MOST_ALIKE = 10_000  # labels of one key that are compared
NAMED = 3  # labels in a message
CREATE = """
    CREATE TABLE labels (key TEXT, path TEXT, id TEXT, about TEXT, used INTEGER);
    CREATE TABLE notes (id TEXT, number INTEGER, body TEXT);
    CREATE INDEX by_key ON labels (key);
    CREATE INDEX by_id ON notes (id, number);
"""


class Label(NamedTuple):
    """A label as it was found: its number in the index, its path, and its id and what a file says about it."""

    number: int
    path: str
    id: str
    about: str


class LabelIndex:
    """Labels, in a temporary file that goes with it; for threads.

    A key is what a label and its picture have in common, by the rule of their dataset. Beside the labels there are
    notes: what a file says of the picture of an id.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(CREATE)

    def add(self, key: str, path: str, id: str = "", about: str = "") -> None:
        """A label. A path that is not UTF-8 cannot be a picture's, whose names are."""
        if is_utf8(path):
            self._run("INSERT INTO labels VALUES (?, ?, ?, ?, 0)", key, path, id, about)

    def has(self, key: str, path: str) -> bool:
        """Whether there is such a label."""
        return bool(self._run("SELECT 1 FROM labels WHERE key = ? AND path = ? LIMIT 1", key, path))

    def note(self, id: str, number: int, body: str) -> None:
        """What is said of an id; ``number`` orders what is said of it."""
        self._run("INSERT INTO notes VALUES (?, ?, ?)", id, number, body)

    def find(self, key: str, picture: str) -> Label:
        """The label of a key. Of several, the one whose path shares most names of folders with the picture's.

        Raises:
            Refused: missing; ambiguous, where several share as many.
        """
        statement = "SELECT rowid, path, id, about FROM labels WHERE key = ? ORDER BY path LIMIT ?"
        found = [Label(*row) for row in self._run(statement, key, MOST_ALIKE)]
        if not found:
            raise Refused("missing", f"no label of {key}")
        if len(found) == 1:
            return found[0]
        shared = [shared_folders(label.path, picture) for label in found]
        best = [label for label, count in zip(found, shared, strict=True) if count == max(shared)]
        if len(best) > 1:
            raise Refused("ambiguous", f"several labels are as likely its own: {best[0].path}, {best[1].path}")
        return best[0]

    def notes(self, id: str) -> list[str]:
        """What is said of an id, in order."""
        return [body for (body,) in self._run("SELECT body FROM notes WHERE id = ? ORDER BY number, body", id)]

    def use(self, label: Label) -> None:
        """Remember that a label is a picture's, or one more's."""
        self._run("UPDATE labels SET used = used + 1 WHERE rowid = ?", label.number)

    def count(self) -> int:
        """All labels."""
        ((count,),) = self._run("SELECT count(*) FROM labels")
        return int(count)

    def unused(self) -> tuple[int, list[str]]:
        """(labels that are no picture's, the paths of the first)."""
        return self._where("NOT used")

    def shared(self) -> tuple[int, list[str]]:
        """(labels that are of several pictures, the paths of the first)."""
        return self._where("used > 1")

    def _where(self, condition: str) -> tuple[int, list[str]]:
        ((count,),) = self._run(f"SELECT count(*) FROM labels WHERE {condition}")  # noqa: S608 ours
        first = self._run(f"SELECT path FROM labels WHERE {condition} ORDER BY path LIMIT ?", NAMED)  # noqa: S608
        return int(count), [path for (path,) in first]

    def _run(self, statement: str, *values: str | int) -> list[tuple]:
        with self._lock:
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                raise MillError(f"the list of labels cannot be kept ({error}): {MAKE_ROOM}") from error


def is_utf8(name: str) -> bool:
    """Whether a name could be a picture's: what is not UTF-8 is in it as surrogates."""
    return name.isascii() or name == name.encode(errors="replace").decode()


def shared_folders(a: str, b: str) -> int:
    """How many names of folders are in both paths."""
    return len(set(a.split("/")[:-1]) & set(b.split("/")[:-1]))


def key_of(pattern: str, path: str) -> str | None:
    """What the groups of a pattern hold, where the end of a path is of that pattern, from the start of a name on."""
    found = _compiled(pattern).search(path)
    return "/".join(group or "" for group in found.groups()) if found else None


@functools.lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|/)(?:{pattern})$", re.IGNORECASE)


def files_below(folder: str, by_path: bool = False) -> Iterator[str]:
    """Paths of files below a folder, with forward slashes; links to folders are followed.

    Folders that a corpus does not look at (hidden ones, what was deleted) are passed over.

    Args:
        folder: which.
        by_path: a folder that several links lead to is seen by each of its paths, instead of once.

    Raises:
        MillError: a folder cannot be listed.
    """

    def unlistable(error: OSError) -> NoReturn:
        raise MillError(f"{error.filename} cannot be listed: {error.strerror}; make it readable, or move it away")

    seen: dict[tuple[int, int], list[str]] = {}
    for place, folders, names in os.walk(folder, onerror=unlistable, followlinks=True):
        there = os.stat(place)
        before = seen.setdefault((there.st_dev, there.st_ino), [])
        if any(not by_path or os.path.commonpath([place, path]) == path for path in before):  # or a link leads back
            folders.clear()
            continue
        before.append(place)
        folders[:] = [name for name in folders if not is_skipped(name)]
        prefix = os.path.relpath(place, folder).replace(os.sep, "/")
        yield from (name if prefix == "." else f"{prefix}/{name}" for name in names)
