"""A run ends where its loss or its gradients are no numbers; what was read for that step is noted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controlmill.bases.configuration import OWN_CLASSES
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.whole import write_whole

from .config import TrainConfig
from .run.saved import steps_saved

MOST_OVERFLOWS = 30  # in a row: the scaler has halved its 65,536 as often, so that it is not the scale's fault


@dataclass
class DivergenceCheck:
    """Checks each step of a run.

    With ``scaled`` (fp16) gradients may overflow: the scaler then skips the step, at most :data:`MOST_OVERFLOWS` in a
    row. ``process`` is the number of this process.
    """

    run: Path
    config: TrainConfig
    scaled: bool
    process: int
    overflows: int = field(default=0, init=False)

    def check(self, step: int, loss: float, norm: float, rows: Sequence[dict[str, int]]) -> None:
        """Before a step's update.

        Raises:
            MillError: the loss is not finite, or the gradient's norm, and no more steps may be skipped.
        """
        self.overflows = 0 if math.isfinite(norm) else self.overflows + 1
        if math.isfinite(loss) and self.overflows < (MOST_OVERFLOWS if self.scaled else 1):
            return
        path = self.run / f"nan_step{step}_process{self.process}.json"
        noted = {"step": step, "loss": str(loss), "gradient": str(norm), "rows": list(rows)}
        write_whole(path, (json.dumps(noted, indent=1) + "\n").encode())
        what = f"the loss is {loss}, its gradient's norm {norm}"
        change = "a lower --learning-rate, a longer --warmup-steps, or "
        if math.isfinite(loss) and self.overflows > 1:
            what = f"fp16 overflows: no gradient of the last {self.overflows} steps was finite, all were skipped"
            change = "--precision bf16 or "
        raise MillError(
            f"step {step}: {what}; the batch's rows are in {path}. {self._again()} {change}--precision fp32"
        )

    def _again(self) -> str:
        """How to begin again."""
        if not steps_saved(self.run) or self.config.connection in OWN_CLASSES:
            return "Begin anew with"
        of_base = f" and without the trained {self.config.unlock}" if self.config.unlock != "none" else ""
        return (
            f"The last checkpoint is whole: begin a new run with --start-from {self.run}, which takes its ControlNet "
            f"alone, without the optimiser's state{of_base}, and"
        )
