"""A run's log: lines of JSON, kept whole when a run goes on; TensorBoard and Weights & Biases beside it."""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.run.log import RunLog
from controlmill.training.run.metrics import FailedEvaluation, StepRecord, line_of, read_metrics
from controlmill.training.trainer import Trainer
from tests.training_runs import EVALUATED, MakeConfig, TrainRun


def test_a_disk_that_is_full_when_a_run_goes_on_takes_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [*(StepRecord(step, 0.5, 1.0, 1e-5, 0.1) for step in range(1, 5)), FailedEvaluation(2, "why")]
    (tmp_path / "metrics.jsonl").write_text("".join(map(line_of, records)))

    def full(record: StepRecord) -> str:
        if record.step < 3:
            return line_of(record)
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("controlmill.training.run.log.line_of", full)
        RunLog(tmp_path, 3)
    assert read_metrics(tmp_path) == records
    log = RunLog(tmp_path, 3)
    log.step(4, 0.25, 1.0, 1e-5, 0.1)
    log.close()
    kept = [record for record in records if record.step <= 3]
    assert read_metrics(tmp_path) == [*kept, StepRecord(4, 0.25, 1.0, 1e-5, 0.1)]
    assert (list(log.steps), list(log.losses)) == ([1, 2, 3, 4], [0.5, 0.5, 0.5, 0.25])


def test_the_history_of_a_long_run_is_not_held_in_memory_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [StepRecord(step, 0.5, 1.0, 1e-5, 0.1) for step in range(1, 101)]
    (tmp_path / "metrics.jsonl").write_text("".join(map(line_of, records)))
    alive, counts = weakref.WeakSet[StepRecord](), list[int]()

    def counted(record: StepRecord) -> str:
        alive.add(record)
        counts.append(len(alive))
        return line_of(record)

    monkeypatch.setattr("controlmill.training.run.log.line_of", counted)
    log = RunLog(tmp_path, 99)
    log.close()
    assert list(log.steps) == list(range(1, 100))
    assert max(counts) <= 2
    assert read_metrics(tmp_path) == records[:99]


def test_a_disk_that_is_full_is_told_with_the_files_name_and_costs_no_curve(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.step(1, 0.5, 1.0, 1e-5, 0.1)
    log._file.close()
    full = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115
    log._file = full
    with pytest.raises(OSError, match="No space") as told, contextlib.closing(log):
        log.step(2, 0.5, 1.0, 1e-5, 0.1)
    assert told.value.filename == str(tmp_path / "metrics.jsonl")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1]


def test_a_run_that_goes_on_keeps_its_last_step_on_tensorboard(tmp_path: Path) -> None:
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # the first was killed after the checkpoint of step 2
        log = RunLog(tmp_path, first)
        for step in steps:
            log.write(StepRecord(step, 0.5 + first, 1.0, 1e-5, 0.1))
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 0.5), (3, 2.5), (4, 2.5)]
    log = RunLog(tmp_path, 0)  # as a run that is begun again, having no checkpoint
    log.write(StepRecord(1, 8.0, 1.0, 1e-5, 0.1))
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 8.0)]


class FakeWandb(types.ModuleType):
    """What the trainer uses of W&B's interface, remembering what it was told."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.begun, self.logged, self.finished = [], [], 0

    def init(self, **settings: Any) -> FakeWandb:
        self.begun.append(settings)
        self.id = settings["id"] or "abc123"
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "step")

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished += 1

    class Image:
        def __init__(self, picture: Any) -> None:
            self.picture = picture


def test_wandb_is_told_what_tensorboard_is_told(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    board = []
    monkeypatch.setattr(
        "torch.utils.tensorboard.SummaryWriter.add_scalar",
        lambda self, name, value, step: board.append((name, value, step)),
    )
    config = short_config(**EVALUATED, evaluation_samples=2, wandb_project="my-project")
    train_run(tmp_path / "run", config)
    scalars = [
        (name, value, values["step"])
        for values in fake.logged
        for name, value in values.items()
        if name != "step" and not isinstance(value, fake.Image)
    ]
    assert scalars == board
    assert {"loss", "rate", "gain", "fidelity"} <= {name for name, _, _ in scalars}
    grids = [(values["step"], values["samples"].picture) for values in fake.logged if "samples" in values]
    assert [step for step, _ in grids] == [0, 2]
    np.testing.assert_array_equal(grids[1][1], np.asarray(Image.open(tmp_path / "run/samples/00000002.png")))
    assert fake.begun[0]["project"] == "my-project"
    assert fake.begun[0]["config"]["learning_rate"] == config.learning_rate
    config, prepared = start.resume(tmp_path / "run", {"steps": 3})
    Trainer(tmp_path / "run", config, prepared, resume=True).train()
    assert [settings["id"] for settings in fake.begun] == [None, "abc123"]
    assert fake.finished == 2


def test_wandb_that_is_not_installed_is_found_before_weights_are_loaded(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffusers.ModelMixin.from_pretrained", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MillError, match=r"--wandb-project mine needs the package wandb.*pip install wandb"):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(wandb_project="mine"))
    assert not (tmp_path / "run").exists()
