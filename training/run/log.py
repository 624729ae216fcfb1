"""What a run says of itself: ``metrics.jsonl``, TensorBoard, W&B if asked, and a line on the terminal now and then."""

from __future__ import annotations

import contextlib
import importlib.util
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.whole import naming_path, replacing, write_whole

from .metrics import METRICS, Record, StepRecord, each_record, line_of, scalars
from .progress import StepProgress


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
        write_whole(known, f"{self._run.id}\n".encode())
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
    ``steps`` and ``losses`` are those of all steps in the log.
    """

    def __init__(self, run: Path, step: int, total: int = 0, wandb: str = "", settings: dict[str, Any] | None = None):
        from torch.utils.tensorboard import SummaryWriter

        self.path, self.steps, self.losses = run / METRICS, array("q"), array("d")
        with replacing(self.path) as scratch, scratch.open("w", encoding="utf-8") as file:
            for record in each_record(run) if step else ():
                if record.step <= step:
                    file.write(line_of(record))
                    self._note(record)
        self._file = self.path.open("a", encoding="utf-8")
        # what was written from purge_step on is hidden
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else 0)
        self._wandb = Wandb(run, wandb, settings or {}) if wandb else None
        self._progress = StepProgress(step, total)

    def step(self, step: int, loss: float, norm: float, rate: float, seconds: float) -> None:
        """One optimiser step."""
        record = StepRecord(step, loss, norm, rate, round(seconds, 4))
        self.write(record)
        self._note(record)
        self._progress.step(step, loss, rate, seconds)

    def _note(self, record: Record) -> None:
        if isinstance(record, StepRecord):
            self.steps.append(record.step)
            self.losses.append(record.loss)

    def write(self, record: Record) -> None:
        """One line; each number in it becomes a point of a curve in TensorBoard and on W&B."""
        with naming_path(self.path):
            self._file.write(line_of(record))
            self._file.flush()
        values = scalars(record)
        for name, value in values.items():
            self._board.add_scalar(name, value, record.step)
        if self._wandb:
            self._wandb.write({"step": record.step, **values})

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """uint8 (H, W, 3)."""
        self._board.add_image(name, picture, step, dataformats="HWC")
        if self._wandb:
            self._wandb.image(name, picture, step)

    def say(self, text: str) -> None:
        """To the terminal, and to the log file where there is one."""
        self._progress.say(text)

    def close(self) -> None:
        """Flush everything that can be."""
        with contextlib.ExitStack() as all_of_them, naming_path(self.path):
            if self._wandb:
                all_of_them.callback(self._wandb.close)
            all_of_them.callback(self._board.close)
            all_of_them.callback(self._progress.close)
            self._file.close()
