"""Lines of ``metrics.jsonl``: a record of each step, of each evaluation, and of each evaluation that failed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Discriminator, Tag

from controlmill.schemas.bounds import Count
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import FORBID, parse

METRICS = "metrics.jsonl"
LARGEST = 2.0**1023  # a curve of larger numbers cannot be drawn


def _number(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for both, and is read as NaN."""
    if isinstance(value, (int, float)) and abs(value) >= LARGEST:
        raise ValueError("a number that is too large")
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_number)]


@dataclass(frozen=True)
class StepRecord:
    """An optimiser step: mean loss of its batch, gradient norm, learning rate, and seconds."""

    __pydantic_config__ = FORBID

    step: Count
    loss: Number
    norm: Number
    rate: Number
    seconds: Number


@dataclass(frozen=True)
class FidelityRecord:
    """As :class:`~controlmill.evaluation.fidelity.Fidelity`; ``gain_error`` is a standard error."""

    __pydantic_config__ = FORBID

    measure: str
    value: Number
    floor: Number
    ceiling: Number
    fraction: Number
    gain: Number
    gain_error: Number
    no_control: Number
    blank: Number
    others: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRecord:
    """What was measured on held-out rows after a step; ``_error`` are standard errors.

    ``deranged_benefit`` is the benefit of other rows' maps. Without ``fidelity``, losses alone were measured.
    """

    __pydantic_config__ = FORBID

    step: Count
    held_out_loss: Number
    base_loss: Number
    gain: Number
    gain_error: Number
    benefit: Number
    benefit_error: Number
    deranged_benefit: Number
    deranged_benefit_error: Number
    fidelity: FidelityRecord | None = None


@dataclass(frozen=True)
class FailedEvaluation:
    """Why there is no evaluation after a step."""

    __pydantic_config__ = FORBID

    step: Count
    evaluation_failed: str


Record = StepRecord | EvaluationRecord | FailedEvaluation
R = TypeVar("R", bound=Record)


def _kind(values: Any) -> str | None:
    """Which record a line is."""
    kinds = {"loss": "step", "gain": "evaluation", "evaluation_failed": "failure"}
    return next((kind for name, kind in kinds.items() if isinstance(values, dict) and name in values), None)


LINE: Any = Annotated[
    Annotated[StepRecord, Tag("step")]
    | Annotated[EvaluationRecord, Tag("evaluation")]
    | Annotated[FailedEvaluation, Tag("failure")],
    Discriminator(_kind),
]


def line_of(record: Record) -> str:
    """A record as its line."""
    values = {name: value for name, value in asdict(record).items() if value is not None}
    return json.dumps(_finite(values)) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by the names of their curves."""
    values = {name: value for name, value in asdict(record).items() if name != "step"}
    fidelity = values.pop("fidelity", None)
    if fidelity:
        others = {name.replace(" ", "_"): value for name, value in fidelity.pop("others").items()}
        gain = {f"fidelity_{name}": fidelity.pop(name) for name in ("gain", "gain_error")}
        values |= {"fidelity": fidelity.pop("value"), **gain, **fidelity, **others}
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


def each_record(run: Path, steps: bool = True) -> Iterator[Record]:
    """All whole lines of a run's log, or without those of ``steps``, which are by far the most; one is held at a time.

    Raises:
        MillError: it is damaged, but for a last line that was cut off while it was written.
    """
    path = run / METRICS
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not steps and b'"loss"' in line:
                continue
            try:
                yield parse(line, LINE)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise MillError(
                    f"{path}, line {number}: no line of a run's log ({error}). Without the file the run goes on, and "
                    "its curves begin anew"
                ) from error


def read_metrics(run: Path) -> list[Record]:
    """All of :func:`each_record`."""
    return list(each_record(run))


def of_kind(records: Iterable[Record], kind: type[R]) -> list[R]:
    """The records of one kind, in order."""
    return [record for record in records if isinstance(record, kind)]


def evaluations(run: Path) -> list[EvaluationRecord]:
    """The evaluations of a run, in order; raises as :func:`each_record`."""
    return of_kind(each_record(run, steps=False), EvaluationRecord)
