"""Which of a user's folders are imported, as which conditions, and how the options say that their maps are read."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controlmill.schemas.conditions import CONDITIONS, NAME, NAME_RULE, Condition, imported
from controlmill.schemas.errors import MillError
from controlmill.schemas.kinds import KINDS, Kind
from controlmill.schemas.maps.label_files import find_set, named_set
from controlmill.schemas.maps.meaning import Meaning, Reading
from controlmill.schemas.tables import RESERVED

from ..options import MapOptions

ENDINGS = (".png", ".tif", ".tiff", ".webp", ".bmp", ".jpg", ".jpeg")
ARRAY_ENDING = ".npy"  # of depth
NAMED_ENDINGS = 5  # of files that are not looked at


@dataclass(frozen=True)
class MapFolder:
    """One imported condition, and how its files are read."""

    condition: Condition
    reading: Reading

    @property
    def name(self) -> str:
        """Of the condition and of the folder."""
        return self.condition.name

    @property
    def endings(self) -> tuple[str, ...]:
        """Of the files that can be such maps, in lower case."""
        return (*ENDINGS, ARRAY_ENDING) if self.condition.kind == "gray16" else ENDINGS


def parse_map_folders(options: MapOptions) -> tuple[MapFolder, ...]:
    """What is imported: folders with the name of a known condition, and those that ``condition_kind`` gives one.

    Raises:
        MillError: a folder is missing or has no maps, a kind is unknown or not the condition's, a word is not
            understood or for no table.
    """
    folder, kinds = str(options.conditions_from or ""), options.condition_kind
    if not os.path.isdir(folder):
        raise MillError(f"--conditions-from {folder}: no such folder")
    there = folders_in(folder)
    asked = {condition.name: condition for condition in map(_parse_condition, kinds)}
    unknown = [name for name in there if name not in CONDITIONS and name not in asked]
    if unknown and not kinds:
        said = " ".join(f"--condition-kind {name}=KIND" for name in unknown)
        raise MillError(f"--conditions-from {folder}: say what kind each unknown condition is, {said}; {_kinds()}")
    asked.update({name: CONDITIONS[name] for name in there if name in CONDITIONS and CONDITIONS[name].kind != "text"})
    missing = [name for name in asked if name not in there]
    if missing or not asked:
        raise MillError(f"--conditions-from {folder}: no folder {', '.join(missing) or 'of a condition'} in it")
    found = _with_meanings([MapFolder(asked[name], Reading.of(asked[name])) for name in sorted(asked)], options)
    for each in found:
        if not _has_map(folder, each):
            others = _others_text(files_of(folder, each)[1])
            why = f"{others}; a map ends in {' '.join(each.endings)}" if others else "it is empty"
            place = os.path.join(folder, each.name)
            raise MillError(f"{place}: no map in this folder ({why}); take the folder away, or bring its maps")
    return found


def folders_in(folder: str) -> list[str]:
    """Names of the folders below a folder, sorted; hidden ones are not looked at."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] not in ".@_")


def not_imported(folder: str, folders: Sequence[MapFolder]) -> list[str]:
    """A line that names the folders that are left out, where there are any."""
    known = {each.name for each in folders}
    left = [name for name in folders_in(folder) if name not in known]
    return [f"not imported: {', '.join(left)} (--condition-kind NAME=KIND says what they are)"] if left else []


def files_of(folder: str, map_folder: MapFolder) -> tuple[int, Counter[str]]:
    """(files that can be maps of a map folder, endings of the others)."""
    maps, others = 0, Counter[str]()
    for name in _names(folder, map_folder):
        ending = os.path.splitext(name)[1].lower()
        if ending in map_folder.endings:
            maps += 1
        elif not name.startswith("."):
            others[ending or "no ending"] += 1
    return maps, others


def _names(folder: str, map_folder: MapFolder) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    for place, below, names in os.walk(os.path.join(folder, map_folder.name), followlinks=True):
        there = os.stat(place)
        if (there.st_dev, there.st_ino) in seen:  # a link leads back here
            below.clear()
            continue
        seen.add((there.st_dev, there.st_ino))
        yield from names


def _has_map(folder: str, map_folder: MapFolder) -> bool:
    return any(os.path.splitext(name)[1].lower() in map_folder.endings for name in _names(folder, map_folder))


def _others_text(others: Counter[str]) -> str:
    named = [f"{ending} {count:,}" for ending, count in others.most_common(NAMED_ENDINGS)]
    more = f" and {len(others) - len(named)} more" if len(others) > len(named) else ""
    return f"{others.total():,} other files: {', '.join(named)}{more}" if others else ""


def messages_of(folder: str, map_folder: MapFolder) -> list[str]:
    """What a user is to know of an import before it starts, in lines."""
    maps, others = files_of(folder, map_folder)
    lines = [f"{map_folder.name}: {maps:,} maps in {os.path.join(folder, map_folder.name)}; {reading_text(map_folder)}"]
    return [*lines, f"{map_folder.name}: not looked at are {_others_text(others)}"] if others else lines


def reading_text(map_folder: MapFolder) -> str:
    """How the files of a map folder are read, for people; and what else they could be, where nobody said."""
    reading, condition = map_folder.reading, map_folder.condition
    if reading.labels and reading == Reading.of(condition):
        last = len(reading.labels.classes) - 1
        return f"ids as they are stored, 0 to {last} and 255 for void (files of another set: --label-set)"
    if condition.name == "depth" and not reading.meaning:
        return "inverse depth as it is, near is bright (distances: --depth metric:SCALE)"
    return reading.described()


def _with_meanings(folders: Sequence[MapFolder], options: MapOptions) -> tuple[MapFolder, ...]:
    changes: dict[str, dict[str, Any]] = {each.name: {} for each in folders}
    for name, words in _meant("--label-set", options.label_set, folders, ("labels",)).items():
        changes[name]["labels"] = find_set(_only("--label-set", words))
    for name, words in _meant("--depth", options.depth, folders, ("gray16",)).items():
        meaning, scale = _parse_depth(_only("--depth", words))
        changes[name].update(meaning=meaning, scale=scale)
    for name, words in _meant("--invalid-depth", options.invalid_depth, folders, ("gray16",)).items():
        if "meaning" not in changes[name]:
            raise MillError(
                f"--invalid-depth {words[0]}: say what the other values of {name} are, --depth metric:SCALE or inverse"
            )
        changes[name]["invalid"] = tuple(sorted({_parse_number("--invalid-depth", word) for word in words}))
    for word in options.invert:
        each = next((each for each in folders if each.name == word), None)
        if each is None or each.condition.kind not in ("binary", "gray8"):
            raise MillError(f"--invert {word}: the name of an imported binary or gray8 condition")
        changes[word]["invert"] = True
    for each in folders:
        _check_classes(each, changes[each.name].get("labels"))
    return tuple(replace(each, reading=replace(each.reading, **changes[each.name])) for each in folders)


def _meant(
    option: str, words: Sequence[str], folders: Sequence[MapFolder], kinds: Sequence[Kind]
) -> dict[str, list[str]]:
    """Table → the values that are said of it."""
    tables = [each.name for each in folders if each.condition.kind in kinds]
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            value = name
            if len(tables) != 1:
                which = f"say for which, NAME={word}: {', '.join(tables)}" if tables else f"no {kinds[0]} are imported"
                raise MillError(f"{option} {word}: {which}")
            name = tables[0]
        if name not in tables:
            raise MillError(f"{option} {word}: {name} is not imported as {' or '.join(kinds)}")
        found.setdefault(name, []).append(value)
    return found


def _only(option: str, words: Sequence[str]) -> str:
    if len(words) > 1:
        raise MillError(f"{option}: {' and '.join(words)} are said of one table")
    return words[0]


def _parse_depth(word: str) -> tuple[Meaning, float]:
    meaning, colon, scale = word.partition(":")
    if meaning == "metric":
        value = _parse_number("--depth", scale) if colon else 1.0
        if value > 0:
            return "metric", value
    if word == "inverse":
        return "inverse", 1.0
    raise MillError(
        f"--depth {word}: metric:SCALE, with values in a metre (1000 for millimetres, 256 for KITTI, 1 for metres), "
        "or inverse, for inverse depth and disparity"
    )


def _parse_number(option: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MillError(f"{option} {word}: a number is meant")
    return value


def _check_classes(map_folder: MapFolder, given: Any) -> None:
    """A known condition's ids mean what the condition says."""
    own = map_folder.condition.label_set
    if own and given and given.classes != named_set(own).classes:
        other = given.name.replace("-", "_")
        raise MillError(
            f"--label-set {given.name}: {map_folder.name} holds the classes of {own}; import others under a name of "
            f"their own: a folder {other} and --condition-kind {other}=labels"
        )


def _parse_condition(word: str) -> Condition:
    name, _, kind = word.partition("=")
    known = CONDITIONS.get(name)
    if known and known.kind == "text":
        raise MillError(f"--condition-kind {word}: captions are not imported from maps")
    if known and kind in ("", known.kind):
        return known
    if known:
        raise MillError(f"--condition-kind {word}: {name} is {known.kind}")
    if not NAME.fullmatch(name) or name in RESERVED:
        raise MillError(f"--condition-kind {word}: a name is {NAME_RULE}, and not another table's")
    if kind not in KINDS:
        raise MillError(f"--condition-kind {word}: {_kinds()}")
    return imported(name, kind)


def _kinds() -> str:
    return f"kinds are {', '.join(KINDS)}"
