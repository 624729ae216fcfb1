"""A table that is made anew: it grows in ``_redo`` beside the old one, which stays until the new one is whole.

    _redo/NAME/0000/00000000.parquet    its files, under the names that they will have
    _redo/_tables/NAME.json             its index, once it is complete
    _redo/_aims/NAME.json               what it is to become, and how far it is: making, switching or done
    _redo/dataset.json                  with new images: their settings and their listing

The switch moves the old table away and the new one to its place. Its index is taken away first and put back last: a
reader finds the old table whole, or the new one, or in between one without an index, which nobody reads. What it was
at stands in the aim, and each step can be done again, so that a switch that was cut off is ended by the next job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from .files.storage import Storage
from .fingerprint import fingerprint
from .names import REDO, index_file
from .records import Aim
from .tables import IMAGES, REJECTED, SOURCES

CONFIGS = ("_local.json", "dataset.json")
MAKING: Literal["making"] = "making"
SWITCHING: Literal["switching"] = "switching"
DONE: Literal["done"] = "done"
LISTED = (SOURCES, REJECTED, IMAGES)  # are made anew together, with the settings in dataset.json


def tables_of(name: str) -> tuple[str, ...]:
    """The tables that are made anew where ``name`` is."""
    return LISTED if name == IMAGES else (name,)


def aims(storage: Storage) -> dict[str, Aim]:
    """Table → its aim, of the redos that were begun and are not ended."""
    names = [name.removesuffix(".json") for name in sorted(storage.files(f"{REDO}/_aims")) if name.endswith(".json")]
    found = {name: storage.read_json(_aim_file(name), Aim) for name in names}
    return {name: aim for name, aim in found.items() if aim}


def state(storage: Storage, name: str, wanted: Mapping[str, Any]) -> str | None:
    """How far a redo with this very aim is; None where none was begun."""
    aim = storage.read_json(_aim_file(name), Aim)
    return aim.state if aim and aim.aim == fingerprint(wanted) else None


def begin(storage: Storage, name: str, wanted: Mapping[str, Any]) -> None:
    """Begin a redo; what one with another aim has left goes."""
    storage.remove(_aim_file(name))
    for table in tables_of(name):
        storage.remove(index_file(table, redone=True))
        storage.remove(f"{REDO}/{table}")
    for config in CONFIGS if name == IMAGES else ():
        storage.remove(f"{REDO}/{config}")
    storage.write_json(_aim_file(name), Aim(fingerprint(wanted), MAKING))


def switch(storage: Storage, name: str) -> None:
    """Put a table that is complete in ``_redo`` in the place of the old one; also where that was cut off before."""
    aim = storage.read_json(_aim_file(name), Aim)
    assert aim is not None
    storage.write_json(_aim_file(name), replace(aim, state=SWITCHING))
    # a new index that is still in _redo says that its table, as far as it was not moved, is whole there
    tables = [table for table in tables_of(name) if storage.exists(index_file(table, redone=True))]
    for table in tables:
        storage.remove(index_file(table))
    for table in tables:
        storage.replace_folder(f"{REDO}/{table}", table, aside=f"{REDO}/_old/{table}")
    for config in CONFIGS if name == IMAGES else ():
        if storage.exists(f"{REDO}/{config}"):
            storage.write(config, storage.read(f"{REDO}/{config}"))
    for table in tables:
        storage.move(index_file(table, redone=True), index_file(table))
    for table in tables_of(name):
        storage.remove(f"{REDO}/{table}")
        storage.remove(f"{REDO}/_old/{table}")
    for config in CONFIGS if name == IMAGES else ():
        storage.remove(f"{REDO}/{config}")
    storage.write_json(_aim_file(name), replace(aim, state=DONE))


def cut_switches(storage: Storage) -> list[str]:
    """Tables whose switch was begun and not ended."""
    return [name for name, aim in aims(storage).items() if aim.state == SWITCHING]


def leftovers(storage: Storage) -> Iterator[str]:
    """What is in ``_redo``, for people; nothing, where no redo is under way."""
    begun = aims(storage)
    for name, aim in begun.items():
        yield f"a redo of {name} is not ended (it is {aim.state}): the same command goes on with it"
    known = {"_aims", "_tables", "_old", *(table for name in begun for table in tables_of(name))}
    for folder in storage.folders(REDO):
        if folder == "_damaged":
            yield "_damaged keeps damaged files until their shards are made again: run the command again"
        elif folder not in known:
            yield f"{folder} belongs to no redo: it can be removed"


def end(storage: Storage, names: Iterable[str]) -> None:
    """The command that made these tables anew has ended: asking again means another redo."""
    left = aims(storage)
    for name in names:
        if name in left and left[name].state == DONE:
            storage.remove(_aim_file(name))
    storage.prune(REDO)


def _aim_file(name: str) -> str:
    return f"{REDO}/_aims/{name}.json"
