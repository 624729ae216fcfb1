"""A training is begun, goes on, or is left, by what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.config import TrainConfig, make_config
from recipes.reproduce.corpus import build
from recipes.reproduce.experiments import Training, trainings
from recipes.reproduce.training import Scale, flags_of, run_of, train

ONE = Training("size", rows=100, steps=1_000)


def config_of(training: Training, scale: Scale) -> TrainConfig:
    flags = {name.replace("-", "_"): value for name, value in flags_of(training, scale).items() if name != "recipe"}
    return make_config("toy", flags)


@pytest.fixture
def begun(
    scenes_folder: Path, small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Training, list[int]], Scale]:
    """Begins a training's run, and lets it have checkpoints of some steps; gives its scale."""
    scale = Scale(base=str(small_base))

    def begin(training: Training, saved: list[int]) -> Scale:
        monkeypatch.setattr("recipes.reproduce.training.steps_saved", lambda run: saved)
        start.begin(str(scenes_folder), run_of(tmp_path, training.name), config_of(training, scale))
        return scale

    return begin


@pytest.mark.parametrize(("saved", "words"), [([], "--recipe=toy"), ([400], "--resume"), ([1_000], "")])
def test_a_training_goes_on_where_it_was_cut_off(
    saved: list[int],
    words: str,
    begun: Callable[[Training, list[int]], Scale],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Sequence[Any]] = []
    scale, run = begun(ONE, saved), run_of(tmp_path, ONE.name)
    monkeypatch.setattr("recipes.reproduce.training.controlmill", lambda words, log: calls.append(words))
    assert train(tmp_path, ONE, scale) == run
    assert [call[:4] for call in calls] == [["train", tmp_path / "dataset", run, words]] * bool(words)
    assert run.exists() == bool(saved), "what has no checkpoint is begun anew"


@pytest.mark.parametrize("saved", [[400], [1_000]])
@pytest.mark.parametrize(
    ("training", "of_scale", "said"),
    [
        (replace(ONE, steps=400), {}, "steps: 1000, now 400"),
        (replace(ONE, evaluate_every=50), {}, "evaluate_every: 500, now 50"),
        (ONE, {"batch_size": 8}, "batch_size: 16, now 8"),
        (ONE, {"base": "tiny"}, "base: .*, now tiny"),
    ],
)
def test_a_run_of_other_settings_is_not_taken_for_what_is_asked(
    training: Training,
    of_scale: dict[str, Any],
    said: str,
    saved: list[int],
    begun: Callable[[Training, list[int]], Scale],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scale = begun(ONE, saved)
    monkeypatch.setattr("recipes.reproduce.training.controlmill", pytest.fail)
    with pytest.raises(MillError, match=said):
        train(tmp_path, training, replace(scale, **of_scale))


def test_a_corpus_of_another_size_is_not_taken_for_what_is_asked(tmp_path: Path) -> None:
    (tmp_path / "corpus" / "photos").mkdir(parents=True)
    (tmp_path / "corpus" / "drawn").touch()
    with pytest.raises(MillError, match="has 0 scenes, not 60"):
        build(tmp_path, 60, "tiny")


@pytest.mark.parametrize("training", {t.connection: t for t in trainings()}.values(), ids=lambda t: t.connection)
def test_every_training_is_one_that_the_command_takes(training: Training) -> None:
    config = config_of(training, Scale())
    assert (config.connection, config.learning_rate) == (training.connection, training.rate)
