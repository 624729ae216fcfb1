"""A trial: values of a dataset's JSON and footers are replaced by absurd ones, and commands look at it in this process.

python -m tests.schemas.views.mutations DATASET WORK COUNT [SEED]
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import resource
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq

from controlmill.__main__ import main as command_line
from controlmill.pipelines.engine.owners import require_alone, sweep
from controlmill.pipelines.engine.run_folder import Run
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.terminal.printing import CONTROLS
from tests.helpers import kept

MEMORY = 2 * 1024**3  # bytes of address space beyond what is taken at the start
KEYS = ("controlmill", "controlmill_summary", "huggingface")


def nested(depth: int) -> list[Any]:
    """A list in a list in a list…"""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


VALUES = (
    *(None, True, -1, 0, 1, 10**12, 2**63, 1e308, float("nan"), float("inf"), 0.5),
    *("", "x", "../../../etc/passwd", "\x1b]0;owned\x07[red]\x9b\u202e\n", "\ud800", "9" * 100, "a" * 100_000),
    *([], {}, [None], [[]], {"": {}}, {"\x1b[31m": 1}, nested(20), nested(500)),
)
RAW = (b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe{", b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of some JSON stands."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


def mutated(text: bytes, draw: random.Random) -> bytes:
    """The JSON with one value replaced, taken away or doubled, or other bytes altogether."""
    if draw.random() < 0.05:
        return draw.choice(RAW)
    if draw.random() < 0.05:
        return text[: draw.randrange(len(text) + 1)]
    value = json.loads(text)
    at = draw.choice(list(places(value)))
    if not at:
        return json.dumps(draw.choice(VALUES)).encode()
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    what = draw.random()
    if what < 0.1:
        del inner[at[-1]]
    elif what < 0.2 and isinstance(inner, dict):
        inner[draw.choice(("\x1b[2J", "x", "", "..", *inner))] = copy.deepcopy(inner[at[-1]])
    else:
        inner[at[-1]] = draw.choice(VALUES)
    return json.dumps(value).encode()


def change(folder: Path, draw: random.Random) -> str:
    """Change one file of a dataset; says which."""
    documents = [*folder.glob("*.json"), *folder.glob("_tables/*.json"), *folder.glob("_run/*/owner.json")]
    if draw.random() < 0.5:
        path = draw.choice(sorted(documents))
        path.write_bytes(mutated(path.read_bytes(), draw))
        return str(path.relative_to(folder))
    path = draw.choice(sorted(folder.glob("*/*/*.parquet")))
    if draw.random() < 0.3:
        data = bytearray(path.read_bytes())
        length = int.from_bytes(data[-8:-4], "little") + 8
        data[-draw.randrange(1, length + 1)] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    else:
        table, metadata = pq.read_table(path), dict(pq.read_metadata(path).metadata)
        key = draw.choice([key.encode() for key in KEYS if key.encode() in metadata])
        metadata = {name: text for name, text in metadata.items() if name.decode() in KEYS}
        metadata[key] = mutated(metadata[key], draw)
        pq.write_table(table.replace_schema_metadata(metadata), path, use_dictionary=["reason", "error"])
    name = path.relative_to(folder)
    if draw.random() < 0.5:  # its index says that all is well
        index = folder / "_tables" / f"{name.parts[0]}.json"
        said = json.loads(index.read_bytes())
        said["shards"][int(path.stem)]["bytes"] = path.stat().st_size
        index.write_text(json.dumps(said))
    return str(name)


def command(*words: str) -> Callable[[], None]:
    """The command line in this process."""

    def run() -> None:
        with mock.patch("sys.argv", ["controlmill", *words]), contextlib.suppress(SystemExit):
            command_line()

    return run


def alone(folder: Path) -> Callable[[], None]:
    """What every job does with the run folders of others."""

    def run() -> None:
        for look in (require_alone, sweep):
            with contextlib.suppress(MillError):
                look(open_storage(folder))

    return run


def main() -> int:
    """Run the trial; 1 where something was wrong."""
    source, work, count, *seed = sys.argv[1:]
    draw = random.Random(int(seed[0]) if seed else 0)
    folder, faults, done = Path(work) / "dataset", Counter[str](), Counter[str]()
    sheet = str(Path(work) / "sheet.png")
    looks = [
        command("verify", "--quick", str(folder)),
        command("inspect", str(folder)),
        command("inspect", str(folder), "--contact-sheet", sheet, "--rows", "1"),
        alone(folder),
    ]
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    for number in range(int(count)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        Run.start(open_storage(folder))
        name = change(folder, draw)
        for look in looks[:2] if number % 10 else looks:
            said = io.StringIO()
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    look()
            except BaseException as error:
                faults[f"{type(error).__name__}: {error}"[:200] + f" by {name}"] += 1
            controls = {char for char in said.getvalue() if unicodedata.category(char) in CONTROLS} - {"\n"}
            if controls:
                faults[f"{controls!r} by {name}"] += 1
            done[f"{'no faults' if 'no faults' in said.getvalue() else 'said'}"] += 1
    for fault, times in faults.most_common():
        print(times, fault)
    print(f"{count} files changed, {dict(done)}, {sum(faults.values())} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    with kept():
        sys.exit(main())
