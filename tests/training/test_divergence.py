"""A loss or gradients that are no numbers end a run, and name the rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from controlmill.schemas.errors import MillError
from tests.training_runs import (
    MakeConfig,
    TrainRun,
    begin,
)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_rows(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(MillError, match=r"the loss is nan.*rows are in.*Begin anew with a lower --learning-rate"):
        train_run(
            tmp_path / "run", short_config(steps=50, learning_rate=1e20, max_grad_norm=0.0, checkpoint_every=1000)
        )
    config = short_config(steps=50, learning_rate=1e20, max_grad_norm=0.0, checkpoint_every=1, unlock="decoder")
    said = r"begin a new run with --start-from .*again, .* and without the trained decoder, and a lower --learning-rate"
    with pytest.raises(MillError, match=said):
        train_run(tmp_path / "again", config)
    noted = json.loads(next((tmp_path / "run").glob("nan_*.json")).read_text())
    assert len(noted["rows"]) == 4
    assert set(noted["rows"][0]) == {"shard", "row", "epoch"}


def test_fp16_gradients_that_are_never_finite_stop_the_run(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_config(steps=99)
    trainer = begin(scenes_folder, tmp_path / "run", config)
    trainer.divergence.scaled = True
    norms = iter([np.inf, np.nan, 1.0, np.inf, np.inf, np.inf])
    monkeypatch.setattr(trainer.accelerator, "clip_grad_norm_", lambda *given: next(norms))
    monkeypatch.setattr("controlmill.training.divergence.MOST_OVERFLOWS", 3)
    with pytest.raises(MillError, match=r"step 5: fp16 .* last 3 steps .*--precision bf16 or --precision fp32"):
        trainer.train()
