"""Checkpoints as files: which are whole, and whether every file is still what was written. Told without torch.

``state.json`` ends a checkpoint: it has the sha256 of each of its files, and one of itself.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.documents import FORBID, read_as
from controlmill.schemas.fingerprint import fingerprint, sha256_file

STATE = "state.json"
FOLDER = re.compile(r"[0-9]{8}")
FILE = re.compile(r"((controlnet|ema|unet)/[\w.-]+|optimizer\.safetensors)")


@dataclass(frozen=True)
class State:
    """``state.json``: the step, the base's fingerprint, the optimiser's numbers that are no tensors, and the files."""

    __pydantic_config__ = FORBID

    step: int
    base: str
    optimizer: dict[str, int | float]
    scaler: dict[str, int | float] | None
    files: dict[str, str]

    def seal(self) -> str:
        """A digest of all of it."""
        return fingerprint(asdict(self))


@dataclass(frozen=True)
class Sealed:
    """A state with its digest, which a flipped bit of the file does not survive."""

    __pydantic_config__ = FORBID

    state: State
    sha256: str


def steps_saved(run: Path) -> list[int]:
    """Steps of the whole checkpoints of a run, in order."""
    names = [path.name for path in (run / "checkpoints").glob("*") if FOLDER.fullmatch(path.name)]
    return sorted(int(name) for name in names if (run / "checkpoints" / name / STATE).is_file())


def folder_of(run: Path, step: int) -> Path:
    """The folder of a checkpoint."""
    return run / "checkpoints" / f"{step:08d}"


def last(run: Path) -> Path:
    """The folder of the last checkpoint.

    Raises:
        MillError: there is none.
    """
    saved = steps_saved(run)
    if not saved:
        raise MillError(f"{run} has no checkpoint to go on from: begin it again, without --resume")
    return folder_of(run, saved[-1])


def digests(folder: Path) -> dict[str, str]:
    """sha256 of the files of a checkpoint that is being written, by their names in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def write_state(folder: Path, state: State) -> None:
    """End a checkpoint."""
    text = json.dumps(asdict(Sealed(state, state.seal())), indent=1, sort_keys=True)
    (folder / STATE).write_text(text + "\n", encoding="utf-8")


def read_state(run: Path) -> State:
    """The state of the last checkpoint.

    Raises:
        MillError: there is none, or it is damaged.
    """
    folder = last(run)
    with reading(run, folder / STATE):
        sealed = read_as(Sealed, folder / STATE)
        state = sealed.state
        if sealed.sha256 != state.seal():
            raise ValueError("its sha256 is another than when it was written")
        if state.step != int(folder.name):
            raise ValueError(f"it is of step {state.step}")
        if wrong := [name for name in state.files if not FILE.fullmatch(name)]:
            raise ValueError(f"it names a file {wrong[0]!r}")
    return state


def check(run: Path, parts: tuple[str, ...] = ("",)) -> State:
    """The state of the last checkpoint, whose files are all as they were written; or those of some folders in it.

    Raises:
        MillError: there is no checkpoint, or a file of it is missing or damaged.
    """
    state, folder = read_state(run), last(run)
    for name, digest in state.files.items():
        if name.startswith(parts):
            with reading(run, folder / name):
                if sha256_file(folder / name) != digest:
                    raise ValueError("its sha256 is another than when it was written")
    return state


def offered(run: Path) -> Path:
    """The folder with the ControlNet that a run with checkpoints offers: the average's where one is kept.

    Raises:
        MillError: see :func:`check`.
    """
    state = read_state(run)
    part = "ema" if any(name.startswith("ema/") for name in state.files) else "controlnet"
    check(run, (f"{part}/", "unet/"))
    return last(run) / part


def controlnet_folder(name: str) -> str:
    """Where a ControlNet is: the folder of a run's, a folder, a ``.safetensors`` file, or a name on the hub."""
    path = Path(name).expanduser()
    if steps_saved(path):
        return str(offered(path))
    if path.is_file() and path.suffix == ".safetensors":
        return str(path)
    if path.exists() and not (path / "config.json").is_file():
        raise MillError(f"{name} is neither a run with a checkpoint, a ControlNet's folder nor a .safetensors file")
    return str(path) if path.exists() else name


@contextlib.contextmanager
def reading(run: Path, path: Path) -> Iterator[None]:
    """Raise MillError, with what to do, where ``path`` of the last checkpoint turns out damaged."""
    try:
        yield
    except MillError:
        raise
    except Exception as error:  # whatever it is that a file from elsewhere makes a library raise
        *before, step = steps_saved(run)
        then = f"go on from step {before[-1]}, the checkpoint before" if before else "begin anew: there is none before"
        raise MillError(
            f"{path} is damaged or missing ({error_text(error)}). Remove the folder {folder_of(run, step)} to {then}"
        ) from error
