"""What a run says of itself: ``metrics.jsonl``, TensorBoard, W&B if asked, and a line on the terminal now and then."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.whole import write_whole

from .progress import StepProgress

LARGEST = 2.0**1023
TOGETHER = {
    "gain": ("gain_error", "benefit", "benefit_error", "held_out_loss", "base_loss"),
    "fidelity": ("floor", "ceiling"),
}  # what a line has, by what it has else


def check_wandb(project: str) -> None:
    """Raise MillError where W&B is asked for and its package is not installed."""
    if project and importlib.util.find_spec("wandb") is None:
        raise MillError(f"--wandb-project {project} needs the package wandb, which is not installed: pip install wandb")


class Wandb:
    """A run on Weights & Biases; one that goes on is the same run there, by the id in ``RUN/wandb.id``."""

    def __init__(self, run: Path, project: str, settings: dict[str, Any]):
        import wandb

        self._wandb, known = wandb, run / "wandb.id"
        name = known.read_text(encoding="utf-8").strip() if known.exists() else None
        self._run = wandb.init(
            project=project, name=run.name, id=name, resume="allow", dir=str(run), config=settings, job_type="train"
        )
        known.write_text(self._run.id + "\n", encoding="utf-8")
        # W&B's own step may not go back, as a run does that was killed after its last checkpoint
        self._run.define_metric("*", step_metric="step")

    def write(self, values: dict[str, Any]) -> None:
        """Numbers of one step."""
        self._run.log(values)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """uint8 (H, W, 3)."""
        self._run.log({name: self._wandb.Image(picture), "step": step})

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()


class RunLog:
    """Appends to the run's log; what was logged after ``step``, before a stop, is forgotten: it will be said again.

    ``total`` is the last step; ``wandb`` is a project on Weights & Biases, or nothing; ``settings`` are shown there.
    """

    def __init__(self, run: Path, step: int, total: int = 0, wandb: str = "", settings: dict[str, Any] | None = None):
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / "metrics.jsonl"
        kept = [line for line in read_log(run) if line["step"] <= step] if step else []
        write_whole(self.path, "".join(map(_line, kept)).encode())
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step or None)
        self._wandb = Wandb(run, wandb, settings or {}) if wandb else None
        self._progress = StepProgress(step, total)

    def step(self, step: int, loss: float, norm: float, rate: float, seconds: float) -> None:
        """One optimiser step."""
        self.write({"step": step, "loss": loss, "norm": norm, "rate": rate, "seconds": round(seconds, 4)})
        self._progress.step(step, loss, rate, seconds)

    def write(self, values: dict[str, Any]) -> None:
        """One line; each number in it becomes a curve in TensorBoard and on W&B."""
        self._file.write(_line(values))
        self._file.flush()
        for name, value in values.items():
            if name != "step" and isinstance(value, (int, float)):
                self._board.add_scalar(name, value, values["step"])
        if self._wandb:
            self._wandb.write({name: value for name, value in values.items() if isinstance(value, (int, float))})

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """uint8 (H, W, 3)."""
        self._board.add_image(name, picture, step, dataformats="HWC")
        if self._wandb:
            self._wandb.image(name, picture, step)

    def say(self, text: str) -> None:
        """To the terminal, and to the log file where there is one."""
        self._progress.say(text)

    def close(self) -> None:
        """Flush everything."""
        self._progress.close()
        self._file.close()
        self._board.close()
        if self._wandb:
            self._wandb.close()


def _line(values: dict[str, Any]) -> str:
    """JSON has no NaN and no infinity: null stands for both."""
    known = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in values.items()}
    return json.dumps(known) + "\n"


def read_log(run: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's log, a null in them as NaN.

    A line has ``step`` and what it is of: ``loss`` (a step), ``gain`` (a look) or ``look_failed`` (why there is none).

    Raises:
        MillError: it is damaged, but for a last line that was cut off while it was written.
    """
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            _check_line(values)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"}"):
                break
            raise MillError(
                f"{path}, line {number}: no line of a run's log ({error_text(error)}). Without the file the run goes "
                "on, and its curves begin anew"
            ) from error
        found.append({name: math.nan if value is None else value for name, value in values.items()})
    return found


def _check_line(values: Any) -> None:
    """Raise ValueError where a line is not what :meth:`RunLog.write` writes."""
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        raise ValueError("it has no step")
    for name, value in values.items():
        number = value is None or (type(value) in (int, float) and abs(value) < LARGEST)
        if not (isinstance(value, str) if name == "look_failed" else number):
            raise ValueError(f"{name} is no number")
    absent = [name for mark, names in TOGETHER.items() if mark in values for name in names if name not in values]
    if absent:
        raise ValueError(f"it has no {', '.join(absent)}")
