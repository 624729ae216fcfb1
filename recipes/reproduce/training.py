"""One training: the command that a user has, then what is measured, then its result as a file."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from controlmill.evaluation.plots import picture_grid, save_picture
from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import differences, package_versions, processor_name
from controlmill.training.config import make_config
from controlmill.training.run.metrics import EvaluationRecord, StepRecord, of_kind, read_metrics
from controlmill.training.run.record import RunRecord, as_recorded, read_run
from controlmill.training.run.saved import controlnet_folder, steps_saved

from .commands import controlmill
from .experiments import Training
from .results import Conditions, Look, Result, write_result

if TYPE_CHECKING:
    from controlmill.bases.base import Base
    from controlmill.evaluation.rows import Sample

    from .subject import Network, Subject

PACKAGES = ("torch", "diffusers", "transformers", "numpy")
JUDGE = "judge.safetensors"
SHOWN = 8  # pictures of a training with each setting of prompts
LOSSES_OVER = 10  # steps, of which a result keeps the mean loss


@dataclass(frozen=True)
class Scale:
    """How large everything is; a test makes it small."""

    scenes: int = 10_600
    batch_size: int = 16
    probes: int = 96
    sampling_steps: int = 20
    evaluation_rows: int = 32
    held_out: float = 0.05
    judge_steps: int = 1_500
    judge_scenes: int = 8_000
    base: str = "tiny"

    @property
    def conditions(self) -> Conditions:
        """What results of this scale say that they were made with."""
        return Conditions(self.base.rpartition("/")[2], self.scenes, self.batch_size, self.probes, self.sampling_steps)


def train_and_measure(folder: Path, results: Path, training: Training, scale: Scale) -> Result:
    """Train, or go on where a training was cut off; measure; write the result.

    Args:
        folder: has the dataset, from :func:`corpus.build`, and gets the runs.
        results: gets the JSON file, and the folder that it is in gets pictures of the first seed.
        training: not in ``results`` yet.
        scale: of everything.

    Raises:
        MillError: the training failed, or that of the ControlNet that is to be added.
    """
    started = time.monotonic()
    if training.beside:
        train(folder, training.beside, scale)
    run = train(folder, training, scale)
    measured = {}
    if training.measured:
        from .measurements import MEASUREMENTS

        subject = subject_of(folder, training, scale)
        measured = {name: MEASUREMENTS[name](subject) for name in training.measured}
        if training.is_shown:
            save_picture(picture_grid(subject.shown(SHOWN)), results.parent / f"{training.name}.png")
    records = read_metrics(run)
    result = Result(
        training,
        scale.conditions,
        [_look(record) for record in of_kind(records, EvaluationRecord)],
        _averaged([record.loss for record in of_kind(records, StepRecord)]),
        measured,
        package_versions(*PACKAGES),
        processor_name(),
        time.strftime("%Y-%m-%d"),
        round(time.monotonic() - started, 1),
    )
    write_result(results, result)
    return result


def run_of(folder: Path, name: str) -> Path:
    """The run folder of a training."""
    return folder / "runs" / name


def train(folder: Path, training: Training, scale: Scale) -> Path:
    """Run the command, with ``--resume`` where a checkpoint is there; returns the run folder.

    Raises:
        MillError: it failed, or the run that is there was begun with other settings.
    """
    run = run_of(folder, training.name)
    saved, log, flags = steps_saved(run), run.with_name(f"{run.name}.log"), flags_of(training, scale)
    if saved:
        _check_settings(run, flags)
        if saved[-1] < training.steps:
            controlmill(["train", folder / "dataset", run, "--resume"], log)
        return run
    shutil.rmtree(run, ignore_errors=True)
    controlmill(["train", folder / "dataset", run, *(f"--{name}={value}" for name, value in flags.items())], log)
    return run


def _check_settings(run: Path, flags: dict[str, Any]) -> None:
    """Raise MillError where a run was begun with other settings than these, which its name does not tell."""
    before = _record(run).config
    given = {name.replace("-", "_"): value for name, value in flags.items() if name != "recipe"}
    config = make_config(flags["recipe"], given)
    asked = replace(config, segments=before.segments, base=as_recorded(config.base, before.base))
    if changed := differences(asdict(before), asdict(asked)):
        raise MillError(f"{run} was trained with other settings ({'; '.join(changed)}): remove it, and it is made anew")


def flags_of(training: Training, scale: Scale) -> dict[str, Any]:
    """Flags of ``controlmill train``."""
    flags: dict[str, Any] = {
        "recipe": "toy",
        "base": scale.base,
        "condition": training.condition,
        "connection": training.connection,
        "seed": training.seed,
        "max-train-samples": training.rows,
        "learning-rate": training.rate,
        "steps": training.steps,
        "batch-size": scale.batch_size,
        "evaluate-every": training.evaluate_every,
        "held-out": scale.held_out,
        "evaluation-rows": scale.evaluation_rows,
        "evaluation-samples": 0,  # pictures are measured at the end, with every kind of prompt
        "evaluation-budget": 0.0,
        "keep-checkpoints": 1,
        "device": "cpu",
    }
    if training.connection == "input":
        flags |= {"unlock": "decoder", "unlock-learning-rate": training.rate}
    return flags


def subject_of(folder: Path, training: Training, scale: Scale) -> Subject:
    """Everything that measurements ask for, loaded."""
    import torch

    from controlmill.bases.registry import load_base

    from .corpus import probes
    from .judge import the_judge
    from .subject import Subject

    base = load_base(scale.base, torch.device("cpu"))
    trained_on, held_out = _rows(folder, training, scale)
    return Subject(
        base,
        _network(base, folder, training.name),
        _network(base, folder, training.beside.name) if training.beside else None,
        probes(scale.probes),
        the_judge(folder / JUDGE, scale.judge_steps, scale.judge_scenes),
        trained_on,
        held_out,
        scale.sampling_steps,
    )


def _network(base: Base, folder: Path, name: str) -> Network:
    from safetensors.torch import load_file

    from controlmill.schemas.stored import stored_condition

    from .subject import Network

    run = run_of(folder, name)
    record = _record(run)
    weights = Path(controlnet_folder(str(run)))
    if record.config.unlock != "none":
        base.denoiser.load_state_dict(load_file(weights.parent / "unet" / "diffusion_pytorch_model.safetensors"))
    return Network(stored_condition(record.provenance), base.load_controlnet(str(weights), record.config.connection))


def _rows(folder: Path, training: Training, scale: Scale) -> tuple[list[Sample], list[Sample]]:
    """Some rows that were trained on, and some held out, decoded."""
    from controlmill.training.data.held_out import held_out_samples
    from controlmill.training.run.prepare import prepare

    prepared = prepare(str(folder / "dataset"), _record(run_of(folder, training.name)).config)
    chosen = prepared.selection
    trained_on, held_out = (
        held_out_samples(prepared.dataset, prepared.condition, rows, scale.probes, 0)
        for rows in (chosen.train, chosen.held_out)
    )
    return trained_on, held_out


def _record(run: Path) -> RunRecord:
    record = read_run(run)
    if record is None or not steps_saved(run):
        raise MillError(f"{run} has no trained ControlNet")
    return record


def _look(record: EvaluationRecord) -> Look:
    return Look(record.step, *(round(value, 5) for value in (record.gain, record.gain_error, record.benefit)))


def _averaged(losses: list[float]) -> list[float]:
    """Means over so many steps; what is left at the end counts for nothing."""
    whole = len(losses) - len(losses) % LOSSES_OVER
    means = np.asarray(losses[:whole]).reshape(-1, LOSSES_OVER).mean(axis=1)
    return [round(float(mean), 5) for mean in means]
