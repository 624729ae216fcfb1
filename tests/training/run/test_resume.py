"""A run that goes on has the bits of one that was never stopped, whatever else the process did in between."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from controlmill.evaluation.fidelity import FidelityMetric
from controlmill.evaluation.rows import Sample
from controlmill.training.trainer import Trainer
from tests.training_runs import MakeConfig, TrainRun, begin, resumed

EVALUATED = {
    "held_out": 0.2,
    "evaluation_rows": 2,
    "sampling_steps": 1,
    "evaluation_budget": 0.0,
    "evaluate_every": 2,
    "evaluation_samples": 2,
}


def go_on(run: Path, **changes: Any) -> None:
    resumed(run, **changes).train()


def files(run: Path, step: int) -> dict[str, dict[str, torch.Tensor]]:
    folder = run / "checkpoints" / f"{step:08d}"
    return {str(path.relative_to(folder)): load_file(path) for path in sorted(folder.rglob("*.safetensors"))}


def assert_equal(a: dict[str, dict[str, torch.Tensor]], b: dict[str, dict[str, torch.Tensor]]) -> None:
    assert a.keys() == b.keys()
    for file, tensors in a.items():
        assert tensors.keys() == b[file].keys()
        assert [name for name, tensor in tensors.items() if not torch.equal(tensor, b[file][name])] == []


def state_of_the_process(trainer: Trainer) -> dict[str, Any]:
    """What a step may depend on beside weights, as plain values."""
    trained, base = trainer.trained, trainer.base
    networks = [base.denoiser, base.vae, base.text_encoder, trained.controlnet, trained.average]
    return {
        "modes": [(name, part.training) for network in networks for name, part in network.named_modules()],
        "gradients": [(name, p.requires_grad) for network in networks for name, p in network.named_parameters()],
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), cv2.getNumThreads()),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "exact": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "kernels": (torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled()),
    }


def disturb(metric: Any, image: np.ndarray, drawn: Any) -> None:
    """As the worst annotator could: it changes everything, and fails."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    torch.set_num_threads(torch.get_num_threads() + 1)
    cv2.setNumThreads(cv2.getNumThreads() + 1)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.mkldnn.enabled = False
    torch.backends.cuda.enable_flash_sdp(False)
    raise RuntimeError("broken")


def test_neither_an_evaluation_nor_a_checkpoint_changes_what_a_step_depends_on(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_config(**{**EVALUATED, "evaluate_every": 1}, steps=3, checkpoint_every=1, ema_decay=0.9)
    run = tmp_path / "run"
    trainer = begin(scenes_folder, run, config)
    annotation, one_step, states = FidelityMetric.annotation, trainer.train_step, []

    def noted(samples: list[Sample], stop: bool) -> Any:
        states.append(state_of_the_process(trainer))
        monkeypatch.setattr(FidelityMetric, "annotation", disturb if trainer.step == 1 else annotation)
        return one_step(samples, stop)

    monkeypatch.setattr(trainer, "train_step", noted)
    before = state_of_the_process(trainer)
    trainer.train()
    assert "broken" in (run / "metrics.jsonl").read_text()
    assert states == [before] * 3
    assert {mode for _, mode in before["modes"]} == {True, False}  # the encoders are not in the steps' mode


@pytest.mark.parametrize("changes", [{**EVALUATED, "evaluation_samples": 0, "unlock": "decoder"}, {"start_from": True}])
def test_a_run_killed_after_the_evaluation_of_its_checkpoint_goes_on_exactly(
    changes: dict[str, Any], train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    changes = {**changes, "base": "tiny", "batch_size": 2}  # a smaller base's layouts do not depend on its mode
    if "start_from" in changes:
        train_run(tmp_path / "first", short_config(steps=1, base="tiny", batch_size=2))
        changes["start_from"] = str(tmp_path / "first")
    train_run(tmp_path / "whole", short_config(steps=3, **changes))
    train_run(tmp_path / "cut", short_config(steps=2, **changes))  # its last step is evaluated, and is a checkpoint's
    go_on(tmp_path / "cut", steps=3)
    assert_equal(files(tmp_path / "whole", 3), files(tmp_path / "cut", 3))
