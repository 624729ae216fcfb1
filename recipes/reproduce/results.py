"""What is kept of a finished training: a small JSON file, from which every figure and verdict can be computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import FORBID, plain, read_as
from controlmill.schemas.files.whole import write_whole

from .experiments import Training


@dataclass(frozen=True)
class Value:
    """A mean over ``count`` pictures or rows, and its standard error."""

    mean: float
    error: float
    count: int


@dataclass(frozen=True)
class Look:
    """Condition gain on held-out rows after a step, its standard error, and the benefit."""

    step: int
    gain: float
    gain_error: float
    benefit: float


@dataclass(frozen=True)
class Conditions:
    """What a result was made with, beside its training."""

    base: str
    scenes: int
    batch_size: int
    probes: int
    sampling_steps: int


@dataclass(frozen=True)
class Result:
    """A finished training.

    Args:
        training: as it was asked for.
        made_with: sizes, and the sha256 of the base.
        looks: while it was trained.
        losses: of each training step.
        measured: by the name of the measurement and of the value: ``prompts`` → ``none: edges``.
        versions: of packages.
        processor: that it ran on.
        day: ISO date.
        seconds: that it took.
    """

    __pydantic_config__ = FORBID

    training: Training
    made_with: Conditions
    looks: Sequence[Look]
    losses: Sequence[float]
    measured: Mapping[str, Mapping[str, Value]]
    versions: Mapping[str, str]
    processor: str
    day: str
    seconds: float

    def mean(self, measurement: str, value: str) -> float | None:
        """A measured mean, None where it is not there."""
        found = self.measured.get(measurement, {}).get(value)
        return None if found is None else found.mean


def path_of(folder: Path, training: Training) -> Path:
    """The file of a training's result."""
    return folder / f"{training.name}.json"


def write_result(folder: Path, result: Result) -> None:
    """Write the file, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(asdict(result)), indent=None, separators=(", ", ": "))
    write_whole(path_of(folder, result.training), (text + "\n").encode())


def read_result(folder: Path, training: Training, made_with: Conditions | None = None) -> Result | None:
    """The result of a training; None where there is none, or where it was made of another corpus, base or size.

    Raises:
        MillError: the file is damaged.
    """
    path = path_of(folder, training)
    if not path.is_file():
        return None
    try:
        result = read_as(Result, path)
    except ValueError as error:
        raise MillError(f"{path}: no result of a training ({error}); remove it, and it is made again") from error
    fits = result.training == training and made_with in (None, result.made_with)
    return result if fits else None


def read_results(folder: Path, trainings: Sequence[Training], made_with: Conditions | None = None) -> list[Result]:
    """Those that are there, in the order of the trainings."""
    found = [read_result(folder, training, made_with) for training in trainings]
    return [result for result in found if result is not None]
