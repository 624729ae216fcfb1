"""What is kept of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlmill.schemas.errors import MillError
from recipes.reproduce.experiments import Training, named, trainings
from recipes.reproduce.results import path_of, read_result, write_result
from tests.recipes.reproduce.results import result_of

ONE = Training("size", rows=100, measured=("half",))


def test_a_result_is_read_as_it_was_written_and_is_small(tmp_path: Path) -> None:
    result = result_of(ONE, {"half": {"all: followed": 0.5}}, jump=300)
    write_result(tmp_path, result)
    assert read_result(tmp_path, ONE, result.made_with) == result
    assert path_of(tmp_path, ONE).stat().st_size < 10_000


def test_a_training_beside_is_a_part_of_the_result(tmp_path: Path) -> None:
    training = next(training for training in trainings() if training.beside)
    write_result(tmp_path, result_of(training))
    assert read_result(tmp_path, training) == result_of(training)


def test_a_result_of_other_settings_counts_for_nothing(tmp_path: Path) -> None:
    result = result_of(ONE)
    write_result(tmp_path, result)
    assert read_result(tmp_path, replace(ONE, steps=2_000)) is None
    assert read_result(tmp_path, ONE, replace(result.made_with, probes=12)) is None
    assert read_result(tmp_path, replace(ONE, seed=1)) is None


def test_a_damaged_result_is_an_error(tmp_path: Path) -> None:
    path_of(tmp_path, ONE).write_text('{"training": 1')
    with pytest.raises(MillError, match="no result of a training"):
        read_result(tmp_path, ONE)


def test_names_are_unique_and_known() -> None:
    names = [training.name for training in trainings()]
    assert len(set(names)) == len(names)
    assert named(names[5], trainings()) == trainings()[5]
    with pytest.raises(MillError, match="no training 'x'"):
        named("x", trainings())


def test_what_is_added_is_trained_before() -> None:
    names = [training.name for training in trainings()]
    for training in trainings():
        if training.beside:
            assert names.index(training.beside.name) < names.index(training.name)
