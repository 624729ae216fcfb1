"""The files of label sets: those of ``label_sets/``, and a user's own in the same form.

Keys of a file: ``classes``, the names in the order of the stored ids, or the name of a set whose classes these are;
``ids``, for each class its value in a map's file or a list of them, in order or as a table by name (default: ``first``,
``first`` + 1, …); ``void``, values that are no class, or "others"; ``colours``, six hex digits for each class, and
``void_colours``, for maps in RGB and for painting; ``encoding``, "ade20k" for R / 10 * 256 + G.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import MillError
from .labels import LabelSet

NAMED = (
    *("ade20k-150", "ade20k-full", "coco-stuff", "coco-stuff-pixelmaps", "cityscapes", "cityscapes-trainids"),
    "voc",
)
ENCODINGS = ("id", "ade20k")
OTHERS = "others"
KEYS = ("classes", "ids", "first", "void", "colours", "void_colours", "encoding")


@functools.cache
def named_set(name: str) -> LabelSet:
    """A set that comes with this project."""
    text = resources.files(__package__).joinpath("label_sets", f"{name}.toml").read_text("utf-8")
    return _parsed(tomllib.loads(text), name)


def find_set(word: str) -> LabelSet:
    """A set by its name, or from a user's TOML file.

    Raises:
        MillError: there is none, or the file is not of that form.
    """
    if word in NAMED:
        return named_set(word)
    if not word.endswith(".toml"):
        raise MillError(f"--label-set {word}: choose {', '.join(NAMED)}, or a .toml file of your own")
    try:
        return _parsed(tomllib.loads(Path(word).read_text("utf-8")), Path(word).stem)
    except OSError as error:
        raise MillError(f"--label-set {word} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:  # TOML's and Unicode's errors are among them
        raise MillError(f"--label-set {word}: {error}") from error


def _parsed(said: Mapping[str, Any], name: str) -> LabelSet:
    """A set from the values of its file.

    Raises:
        ValueError: not of that form.
    """
    unknown = set(said) - set(KEYS)
    if unknown:
        raise ValueError(f"no key is called {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}")
    base = named_set(said["classes"]) if said.get("classes") in NAMED else None
    classes = base.classes if base else _strings(said.get("classes"), "classes")
    first = _number(said.get("first", 0), "first")
    ids = _ids(said.get("ids", [first + number for number in range(len(classes))]), classes)
    void = said.get("void", [])
    encoding = said.get("encoding", "id")
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding: {' or '.join(ENCODINGS)}")
    found = LabelSet(
        name,
        classes,
        ids,
        () if void == OTHERS else tuple(_number(value, "void") for value in _list(void, "void")),
        void == OTHERS,
        _colours(said["colours"], "colours") if "colours" in said else base.colours if base else (),
        _colours(said.get("void_colours", base.void_colours if base else []), "void_colours"),
        encoding,
    )
    found.check()
    return found


def _ids(said: Any, classes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """From a list in the order of the classes, or a table by their names."""
    if isinstance(said, Mapping):
        unknown = set(said) - set(classes)
        if unknown:
            raise ValueError(f"ids: no class is called {', '.join(sorted(unknown))}")
        said = [said.get(name, []) for name in classes]
    return tuple(
        tuple(_number(value, "ids") for value in (entry if isinstance(entry, list) else [entry]))
        for entry in _list(said, "ids")
    )


def _list(said: Any, key: str) -> list[Any]:
    if not isinstance(said, list | tuple):
        raise ValueError(f"{key}: a list, not {said!r}")
    return list(said)


def _strings(said: Any, key: str) -> tuple[str, ...]:
    if not isinstance(said, list) or not all(isinstance(word, str) for word in said):
        raise ValueError(f"{key}: a list of names, or one of {', '.join(NAMED)}")
    return tuple(said)


def _number(said: Any, key: str) -> int:
    if not isinstance(said, int) or isinstance(said, bool) or not 0 <= said <= 65535:
        raise ValueError(f"{key}: {said!r} is no number from 0 to 65535")
    return said


def _colours(said: Any, key: str) -> tuple[str, ...]:
    words = [str(word).removeprefix("#").lower() for word in _list(said, key)]
    bad = [word for word in words if len(word) != 6 or set(word) - set("0123456789abcdef")]
    if bad:
        raise ValueError(f"{key}: {bad[0]!r} is no colour; write six hex digits, as 00ff7f")
    return tuple(words)
