"""Files that an evaluation, or an error, writes to a run's folder: whole, or as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from controlmill.evaluation.convergence import Estimate
from controlmill.evaluation.evaluate import Baseline, EvaluationSamples, Measurements
from controlmill.evaluation.fidelity import Fidelity
from controlmill.evaluation.losses import LossInputs
from controlmill.evaluation.plots import save_picture
from controlmill.evaluation.rows import Sample
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import MillError
from controlmill.training.config import TrainConfig
from controlmill.training.divergence import DivergenceCheck
from controlmill.training.run.converged import Convergence, write_convergence
from controlmill.training.run.log import RunLog
from controlmill.training.run.metrics import evaluations
from controlmill.training.run.report import write_evaluation
from tests.training_runs import resumed

PICTURE = np.zeros((64, 64, 3), np.uint8)
WRITTEN = ("samples/00000003.png", "curves.png", "convergence.json", "README.md")


def write(run: Path, gain: float) -> None:
    """Write an evaluation after step 3, whose gain is in every file."""
    shade = PICTURE + np.uint8(100 * gain)
    sample = Sample(0, (0, 0), PICTURE, {"canny": PICTURE[..., 0]}, "", {})
    inputs: Any = LossInputs(None, None, None)  # type: ignore[arg-type]
    fidelity = Fidelity("F1 within 1 px", 0.9, 0.1, 0.95, 0.9, Estimate(0.8, 0.05), 0.2, 0.3)
    part = Estimate(0.1, 0.01)
    measured = Measurements(0.5, 0.6, Estimate(gain, 0.01), part, part, fidelity, [shade], [shade])
    log = RunLog(run, 2)
    try:
        baseline = Baseline(inputs, np.zeros((2, 6)), [PICTURE], 0.2, 0.95, 0.1)
        write_evaluation(run, log, 3, CONDITIONS["canny"], EvaluationSamples([sample], [sample]), baseline, measured)
    finally:
        log.close()


def cut_off(path: Any, data: bytes = b"") -> None:
    Path(path).write_text("half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_cannot_be_written_stays_as_it_was(name: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(finished_run, 0.5)
    before = (finished_run / name).read_bytes()

    def fails(go: Callable[..., Any], at: int) -> Callable[..., Any]:
        """``go``, which is cut off where it writes ``name``."""

        def write(*given: Any, **options: Any) -> Any:
            target = str(given[at])
            return cut_off(target) if Path(name).name in target and "~" in target else go(*given, **options)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fails(Image.Image.save, 1))
        patch.setattr(Figure, "savefig", fails(Figure.savefig, 1))
        patch.setattr(Path, "write_bytes", fails(Path.write_bytes, 0))
        with pytest.raises(OSError, match="No space left"):
            write(finished_run, 1.5)
    assert (finished_run / name).read_bytes() == before
    assert not list(finished_run.rglob("*~"))
    write(finished_run, 1.5)
    assert evaluations(finished_run)[-1].gain == 1.5
    if name != "convergence.json":
        assert (finished_run / name).read_bytes() != before


def test_a_run_that_goes_back_keeps_nothing_of_what_came_after(finished_run: Path) -> None:
    def told() -> dict[str, bytes]:
        names = (*(f"samples/{path.name}" for path in (finished_run / "samples").iterdir()), *WRITTEN[1:])
        return {name: (finished_run / name).read_bytes() for name in names}

    before = told()
    write(finished_run, 0.5)
    write_convergence(finished_run, Convergence(3))
    assert all(told()[name] != before.get(name) for name in WRITTEN)
    resumed(finished_run).train()
    assert told() == before


def test_the_rows_of_a_step_that_diverged_are_noted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = DivergenceCheck(tmp_path, TrainConfig(condition="canny"), scaled=False, process=0)
    rows = [{"shard": 0, "row": 1, "epoch": 2}]
    with pytest.raises(MillError, match="the loss is nan"):
        check.check(4, float("nan"), 1.0, rows)
    path = tmp_path / "nan_step4_process0.json"
    before = path.read_bytes()
    assert json.loads(before) == {"step": 4, "loss": "nan", "gradient": "1.0", "rows": rows}
    monkeypatch.setattr(Path, "write_bytes", cut_off)
    with pytest.raises(OSError, match="No space left"):
        check.check(4, float("inf"), 1.0, rows)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.jpg", "c.webp"):
        save_picture(PICTURE, tmp_path / name)
        assert Image.open(tmp_path / name).size == (64, 64)
    monkeypatch.setattr(Image.Image, "save", lambda self, path, **options: cut_off(path))
    with pytest.raises(OSError, match="No space left"):
        save_picture(PICTURE + 9, tmp_path / "a.png")
    assert not np.asarray(Image.open(tmp_path / "a.png")).any()
