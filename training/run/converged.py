"""``convergence.json`` of a run: from which step maps are followed, and how fast that came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from controlmill.evaluation.convergence import Estimate, find_convergence
from controlmill.evaluation.rise import Rise, find_rise
from controlmill.schemas.files.documents import FORBID, read_as
from controlmill.schemas.files.whole import write_whole

from .metrics import EvaluationRecord

CONVERGENCE = "convergence.json"


@dataclass(frozen=True)
class Convergence:
    """``step``: of the evaluation from which maps are followed (``find_convergence``), None where they are not, or
    where fidelity is not measured. ``rise``: of the condition gain, None where it was not seen to rise.
    """

    __pydantic_config__ = FORBID

    step: int | None = None
    rise: Rise | None = None


def convergence_of(evaluations: Sequence[EvaluationRecord]) -> Convergence:
    """What the evaluations of a run tell; those of losses alone tell of the rise."""
    measured = [(record, record.fidelity) for record in evaluations if record.fidelity]
    return Convergence(
        find_convergence(
            [record.step for record, _ in measured],
            [Estimate(record.gain, record.gain_error) for record, _ in measured],
            [Estimate(fidelity.gain, fidelity.gain_error) for _, fidelity in measured],
        ),
        find_rise(
            [record.step for record in evaluations],
            [Estimate(record.gain, record.gain_error) for record in evaluations],
        ),
    )


def write_convergence(run: Path, convergence: Convergence) -> None:
    """Write the file, whole or not at all."""
    write_whole(run / CONVERGENCE, (json.dumps(asdict(convergence)) + "\n").encode())


def read_convergence(run: Path) -> Convergence:
    """What a run's file says; nothing is known where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = run / CONVERGENCE
    return read_as(Convergence, path) if path.is_file() else Convergence()


def rise_text(rise: Rise) -> str:
    """One sentence for people."""
    width, high = rise.width, rise.width.high
    between = f"{width.low:.0f} to {high:.0f}" if high is not None else f"{width.low:.0f} or more"
    verdict = {"yes": "sudden", "no": "gradual", "not known": "whether that is sudden is not known"}[rise.sudden]
    return (
        f"gain rose around step {rise.onset.value:.0f} from 10 % to 90 % within {between} steps, "
        f"{rise.ratio.low:.2g} to {'more' if rise.ratio.high is None else f'{rise.ratio.high:.2g}'} "
        f"of the steps before: {verdict}"
    )
