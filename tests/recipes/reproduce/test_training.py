"""A training is begun, goes on, or is left, by what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from controlmill.training.config import make_config
from recipes.reproduce.experiments import Training, trainings
from recipes.reproduce.training import Scale, flags_of, run_of, train

ONE = Training("size", rows=100, steps=1_000)


@pytest.mark.parametrize(("saved", "begun"), [([], "--recipe=toy"), ([400], "--resume"), ([1_000], "")])
def test_a_training_goes_on_where_it_was_cut_off(
    saved: list[int], begun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Sequence[Any]] = []
    monkeypatch.setattr("recipes.reproduce.training.steps_saved", lambda run: saved)
    monkeypatch.setattr("recipes.reproduce.training.controlmill", lambda words, log: calls.append(words))
    run = run_of(tmp_path, ONE.name)
    run.mkdir(parents=True)
    assert train(tmp_path, ONE, Scale()) == run
    assert [words[:4] for words in calls] == [["train", tmp_path / "dataset", run, begun]] * bool(begun)
    assert run.exists() == bool(saved), "what has no checkpoint is begun anew"


@pytest.mark.parametrize("training", {t.connection: t for t in trainings()}.values(), ids=lambda t: t.connection)
def test_every_training_is_one_that_the_command_takes(training: Training) -> None:
    flags = {name.replace("-", "_"): value for name, value in flags_of(training, Scale()).items() if name != "recipe"}
    config = make_config("toy", flags)
    assert (config.connection, config.learning_rate) == (training.connection, training.rate)
