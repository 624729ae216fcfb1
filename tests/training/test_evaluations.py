"""Evaluation while a run trains: in every precision, within the memory of a step, on the window that is trained on."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from controlmill.evaluation.evaluate import Baseline, measure_baseline
from controlmill.training import evaluations as module
from controlmill.training import start
from controlmill.training.config import TrainConfig
from controlmill.training.run.metrics import FailedEvaluation, evaluations, of_kind, read_metrics
from controlmill.training.schedules import EvaluationSchedule
from controlmill.training.trainer import StepResult, Trainer
from tests.training_runs import EVALUATED, MakeConfig, TrainRun, begin


@pytest.fixture
def trainer_of(scenes_folder: Path, tmp_path: Path) -> Callable[[TrainConfig], Trainer]:
    """Begins a run and builds its trainer."""

    def go(config: TrainConfig) -> Trainer:
        return begin(scenes_folder, tmp_path / "run", config)

    return go


@pytest.fixture
def baselines(monkeypatch: pytest.MonkeyPatch) -> list[Baseline]:
    """The baseline of every run that is trained."""
    made: list[Baseline] = []

    def note(*given: Any) -> Baseline:
        made.append(measure_baseline(*given))
        return made[-1]

    monkeypatch.setattr(module, "measure_baseline", note)
    return made


def steps_evaluated(run: Path) -> list[int]:
    return [record.step for record in evaluations(run)]


def test_evaluations_measure_from_floor_to_ceiling_and_draw(finished_run: Path) -> None:
    records = evaluations(finished_run)
    assert [record.step for record in records] == [0, 1, 2]
    first = records[0]
    assert first.gain == first.benefit == first.deranged_benefit == 0  # zero convolutions
    assert first.fidelity is not None
    assert first.fidelity.value == first.fidelity.no_control == first.fidelity.blank
    assert first.fidelity.measure == "F1 within 1 px"  # of 64 pixels
    assert first.fidelity.others.keys() == {"F1 exact"}
    assert first.held_out_loss == first.base_loss
    assert records[2].benefit != 0
    for name in ("curves.png", "samples/00000002.png"):
        assert np.asarray(Image.open(finished_run / name)).std() > 0
    assert json.loads((finished_run / "convergence.json").read_text()) == {"step": None, "rise": None}


def test_evaluation_changes_no_weight(
    finished_run: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(
        tmp_path / "blind", short_config(steps=2, held_out=0.2, evaluation_rows=2, sampling_steps=1, evaluate_every=100)
    )
    a, b = (load_file(r / "diffusion_pytorch_model.safetensors") for r in (finished_run, tmp_path / "blind"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_too_few_held_out_rows_are_told_with_a_share_that_would_do(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(tmp_path / "run", short_config(steps=1))
    said = capsys.readouterr().err
    assert re.search(r"fewer than two held-out rows: there is no evaluation; use --held-out 0\.\d+ or more", said)


@pytest.mark.parametrize("changes", [{}, {"unlock": "base"}, {"ema_decay": 0.9}])
def test_a_bf16_run_is_evaluated(
    changes: dict[str, Any], train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(**EVALUATED, evaluation_samples=2, precision="bf16", **changes))
    first, last = evaluations(tmp_path / "run")
    assert first.fidelity is not None
    assert last.fidelity is not None
    assert first.gain == 0
    assert first.fidelity.value == first.fidelity.no_control
    found = last.fidelity
    assert np.isfinite([last.gain, found.value, found.floor, found.blank, found.ceiling]).all()


def test_evaluation_takes_no_more_at_once_than_a_step(
    trainer_of: Callable[[TrainConfig], Trainer], short_config: MakeConfig
) -> None:
    trainer = trainer_of(short_config(**{**EVALUATED, "evaluation_rows": 5}, evaluation_samples=3, micro_batch_size=2))
    base, largest = trainer.base, {}
    networks = {
        "unet": base.denoiser,
        "encoder": base.vae.encoder,
        "decoder": base.vae.decoder,
        "text": base.text_encoder,
    }
    for name, network in networks.items():

        def note(module: torch.nn.Module, given: Any, name: str = name) -> None:
            largest[name] = max(largest.get(name, 0), len(given[0]))

        network.register_forward_pre_hook(note)
    trainer.train()
    assert largest == {"unet": 4, "encoder": 2, "decoder": 2, "text": 2}  # guidance: each picture with and without


def test_losses_alone_are_measured_between_evaluations(
    trainer_of: Callable[[TrainConfig], Trainer], short_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "train_step", lambda *given: StepResult(0.0, 0.0))
    trainer = trainer_of(
        short_config(**{**EVALUATED, "steps": 6, "evaluate_every": 5, "evaluation_rows": 2}, evaluation_samples=1)
    )
    trainer.train()
    run = trainer.run
    assert steps_evaluated(run) == [0, 1, 2, 3, 4, 5, 6]
    assert [record.step for record in evaluations(run) if record.fidelity] == [0, 5, 6]
    assert [path.stem for path in sorted((run / "samples").iterdir())] == ["00000000", "00000005", "00000006"]
    resumed = EvaluationSchedule(5, 0.0)
    module.note_before(resumed, evaluations(run)[:5])
    assert resumed.looked == 4
    assert resumed.evaluated == 0
    assert resumed.due(4, required=True) == "all"  # the last step of a shorter run, which was looked at alone


def test_with_crop_evaluation_is_on_windows(
    baselines: list[Baseline], train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(**EVALUATED, evaluation_samples=2, crop_size=32))
    assert baselines[0].inputs.latents.shape[2:] == (8, 8)
    assert {picture.shape for picture in baselines[0].pictures} == {(32, 32, 3)}


def test_a_run_that_goes_on_may_be_evaluated_otherwise(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(**EVALUATED, evaluation_samples=2))
    changes = {
        "evaluation_samples": 0,
        "evaluation_rows": 6,
        "sampling_steps": 2,
        "guidance_scale": 3.0,
        "evaluation_prompt": "a",
        "steps": 3,
    }
    Trainer(tmp_path / "run", *start.resume(tmp_path / "run", changes), resume=True).train()
    assert steps_evaluated(tmp_path / "run") == [0, 2, 3]
    assert evaluations(tmp_path / "run")[-1].fidelity is None


def test_a_run_without_time_for_evaluation_does_not_read_its_log_at_each_step(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    clock = [0.0]

    def slow(*given: Any) -> Baseline:  # nothing but the baseline takes time: it counts as evaluation
        clock[0] += 1.0
        return measure_baseline(*given)

    monkeypatch.setattr(module, "measure_baseline", slow)
    monkeypatch.setattr(module, "EvaluationSchedule", functools.partial(EvaluationSchedule, clock=lambda: clock[0]))
    for name in ("evaluations", "run.report"):
        monkeypatch.setattr(f"controlmill.training.{name}.evaluations", lambda run: calls.append(1) or evaluations(run))
    config = short_config(**{**EVALUATED, "steps": 6, "evaluate_every": 1, "evaluation_budget": 0.01})
    train_run(tmp_path / "run", config)
    assert steps_evaluated(tmp_path / "run") == [0, 6]
    assert len(calls) == 4  # twice at the beginning, and for the curves of each evaluation
    Trainer(tmp_path / "run", *start.resume(tmp_path / "run", {}), resume=True).train()
    assert steps_evaluated(tmp_path / "run") == [0, 6]


# evaluations that fail, or that tell nothing


def test_an_evaluation_that_fails_does_not_end_the_run(
    train_run: TrainRun,
    short_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    modes: list[bool] = []
    write = module.write_evaluation

    def fails(run: Path, log: Any, step: int, *rest: Any) -> None:
        if step == 1:
            raise RuntimeError("out of memory")
        write(run, log, step, *rest)

    def note(trainer: Trainer, batch: Any, stop: bool) -> StepResult:
        modes.append(trainer.trained.controlnet.training)
        return StepResult(0.0, 0.0)

    monkeypatch.setattr(module, "write_evaluation", fails)
    monkeypatch.setattr(Trainer, "train_step", note)
    run = tmp_path / "run"
    trainer = train_run(run, short_config(**{**EVALUATED, "evaluate_every": 1}, evaluation_samples=1))
    assert modes == [True, True]
    assert trainer.step == 2
    assert steps_evaluated(run) == [0, 2]
    failed = of_kind(read_metrics(run), FailedEvaluation)
    assert failed == [FailedEvaluation(1, "RuntimeError: out of memory")]
    assert "step 1: the evaluation failed (RuntimeError: out of memory); the run goes on" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "first"), [(RuntimeError, True), (KeyboardInterrupt, False)])
def test_the_first_evaluation_may_fail_and_ctrl_c_is_no_failure(
    error: type[BaseException],
    first: bool,
    train_run: TrainRun,
    short_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(run: Path, log: Any, step: int, *rest: Any) -> None:
        if first or step:
            raise error

    monkeypatch.setattr(module, "write_evaluation", fails)
    with pytest.raises(error):
        train_run(tmp_path / "run", short_config(**{**EVALUATED, "evaluate_every": 1}, evaluation_samples=1))


def test_fidelity_that_tells_nothing_is_said_once_and_breaks_nothing(
    train_run: TrainRun,
    short_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr("controlmill.evaluation.evaluate.round_trip", lambda base, images, batch: [black] * len(images))
    run = tmp_path / "run"
    train_run(run, short_config(**EVALUATED, evaluation_samples=2))
    assert capsys.readouterr().err.count("fidelity tells nothing here: F1 within 1 px is 0.000") == 1
    assert all(record.fidelity and np.isnan(record.fidelity.fraction) for record in evaluations(run))
    assert json.loads((run / "convergence.json").read_text()) == {"step": None, "rise": None}
    assert "NaN" not in (run / "metrics.jsonl").read_text()
    assert "| ceiling | 0.0000 |" in (run / "README.md").read_text()
