"""What a run was begun with: ``run.json``, which may be published, and ``_local.json``, the paths of this machine.

Told without torch.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from controlmill.bases.configuration import is_written_as_path
from controlmill.schemas.bounds import Count
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import FORBID, plain, read_as
from controlmill.schemas.files.whole import write_whole
from controlmill.schemas.provenance import Provenance

from ..config import TrainConfig
from .claim import LOCK, RUN

LOCAL, IGNORED = "_local.json", ".gitignore"
# for git, and for the Hub, which leaves out what a .gitignore names; W&B notes the user's and the machine's name
LEFT_OUT = f"{LOCAL}\n{LOCK}\nwandb/\n*~\n*.partial\n"
Side = Annotated[int, Field(ge=1, le=2**16)]  # of a picture
DECISIVE = ("base", "start_from")  # settings that decide the weights and may be paths


@dataclass(frozen=True)
class Local:
    """``_local.json``: the dataset's address, and settings that are paths of this machine; None: not one."""

    __pydantic_config__ = FORBID

    dataset: str
    base: str | None = None
    start_from: str | None = None
    weights: str | None = None
    evaluation_image: list[str] | None = None

    def settings(self) -> dict[str, Any]:
        """The settings."""
        return {name: value for name, value in asdict(self).items() if name != "dataset" and value is not None}


@dataclass(frozen=True)
class RunRecord:
    """``run.json`` with ``_local.json`` put in. ``shapes`` are (height, width), the commonest first."""

    __pydantic_config__ = FORBID

    config: TrainConfig
    dataset: str
    fingerprint: str
    digests: dict[str, str]
    caches: list[str]
    provenance: Provenance
    shapes: list[tuple[Side, Side]]
    rows: Count
    held_out: Count
    left_out: dict[str, Count]

    def check(self) -> None:
        """Raise ValueError where types are right and values are not."""
        try:
            self.config.check()
        except MillError as error:
            raise ValueError(" ".join(str(error).split())) from error
        if self.provenance.annotator is None:
            raise ValueError("no annotator in provenance")
        if not self.shapes:
            raise ValueError("no shapes")


def published(config: TrainConfig) -> TrainConfig:
    """Settings without the paths of this machine: of what decided the weights the last names are left."""
    paths = ((name, getattr(config, name)) for name in DECISIVE)
    names: dict[str, Any] = {name: PurePosixPath(value).name for name, value in paths if is_path(value)}
    return replace(config, weights="", evaluation_image=[], **names)


def is_path(name: str) -> bool:
    """Whether what may be a name on the hub (or ``tiny``) is a path here."""
    return name not in ("", "tiny") and (is_written_as_path(name) or os.path.exists(os.path.expanduser(name)))


def as_recorded(asked: str, recorded: str) -> str:
    """``recorded`` where it is ``asked``, a name on the hub, at the commit that a run read; else ``asked``."""
    return recorded if not is_path(recorded) and recorded.partition("@")[0] == asked else asked


def read_run(run: Path) -> RunRecord | None:
    """What a run was begun with; None where there is no ``run.json``.

    Raises:
        MillError: a file of it is damaged, or written by another version of ControlMill.
    """
    path = run / RUN
    if not path.is_file():
        return None
    try:
        record = read_as(RunRecord, path)
        record.check()
        path = run / LOCAL
        if path.is_file():
            local = read_as(Local, path)
            record = replace(record, dataset=local.dataset, config=replace(record.config, **local.settings()))
    except (OSError, ValueError) as error:
        raise MillError(f"{path} is damaged, or of another version of ControlMill: {error}") from error
    return record


def write_run(run: Path, record: RunRecord) -> None:
    """Write a run's record; the folder is made where there is none."""
    run.mkdir(parents=True, exist_ok=True)
    config = record.config
    told = replace(record, dataset=PurePosixPath(record.dataset).name, config=published(config))
    _write(run / RUN, {**asdict(told), "provenance": plain(record.provenance)})
    paths = {name: value for name in DECISIVE if is_path(value := getattr(config, name))}
    _write(
        run / LOCAL,
        asdict(Local(record.dataset, weights=config.weights, evaluation_image=config.evaluation_image, **paths)),
    )
    write_whole(run / IGNORED, LEFT_OUT.encode())


def _write(path: Path, said: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(said, indent=1, sort_keys=True) + "\n").encode())
