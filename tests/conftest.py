"""What tests share: a corpus and its dataset, drawn scenes with all conditions, a small base, and short runs on it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.machine import ONE_THREAD
from tests.helpers import command, end_kept, kept, make, write_hostile, write_photos

if TYPE_CHECKING:  # what only a few tests need is not imported for all
    from controlmill.training.config import TrainConfig
    from controlmill.training.trainer import Trainer
    from tests.training_runs import MakeConfig, TrainRun

os.environ.update({**ONE_THREAD, **os.environ})  # tests run side by side: a thread for each, and for what they start

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the real hub; its client reads it once, so it is the same for all

# a shell's background jobs ignore one, those of nohup the other, and so would all that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

WEIGHTS = "CONTROLMILL_TEST_WEIGHTS"

gc.set_threshold(100_000)  # looking for garbage among all that is imported takes an eighth of the time of the tests

hypothesis.settings.register_profile("untimed", deadline=None)  # timings decide nothing
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """A folder for the weights of networks, gigabytes, of all processes of a session; it goes with the session."""
    if not hasattr(config, "workerinput"):
        os.environ[WEIGHTS] = tempfile.mkdtemp(prefix="controlmill-weights-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ[WEIGHTS]))


def pytest_collection_finish() -> None:
    """What is imported stays: nobody looks for garbage in it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _kept() -> Iterator[None]:
    """Processes that tests share."""
    with kept():
        yield
    end_kept()


@pytest.fixture(scope="session")
def weights_folder() -> Path:
    """What ``tests.annotators.random_weights.write`` writes into; not to be changed."""
    return Path(os.environ[WEIGHTS])


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 good pictures and 3 hostile files."""
    folder = write_photos(tmp_path_factory.mktemp("corpus") / "photos")
    write_hostile(folder / "hostile")
    return folder


@pytest.fixture(scope="session")
def dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as a dataset, with all conditions that need no weights; not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "dataset"
    make(photos, folder)
    return folder


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 drawn scenes with all nine conditions, as a dataset; not to be changed."""
    from tests.scenes import build_scenes

    return build_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def scenes_dataset(scenes_folder: Path) -> Dataset:
    """The same, opened."""
    return Dataset.open(scenes_folder)


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a base for runs of a second."""
    from tests.small_base import save_small_base

    return save_small_base(tmp_path_factory.mktemp("base") / "small")


@pytest.fixture(scope="session")
def small_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Stable Diffusion XL for runs of a second."""
    from tests.small_base import save_small_xl

    return save_small_xl(tmp_path_factory.mktemp("base") / "xl")


@pytest.fixture(scope="session")
def scenes_with_caches(scenes_folder: Path, small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes with caches of the small base, made by the command."""
    folder = tmp_path_factory.mktemp("cached") / "dataset"
    shutil.copytree(scenes_folder, folder)
    encoded = command("encode", str(folder), "--base", str(small_base), "--text", "--flip")
    assert encoded.returncode == 0, encoded.stderr
    return folder


@pytest.fixture
def short_config(small_base: Path) -> MakeConfig:
    """Makes the settings of a short run; without evaluation unless asked for."""
    from tests import training_runs

    return lambda **changes: training_runs.short_config(small_base, **changes)


@pytest.fixture
def train_run(scenes_folder: Path) -> TrainRun:
    """Trains a new run on the scenes to its end; returns its trainer."""
    from tests.training_runs import begin

    def train(folder: Path, config: TrainConfig) -> Trainer:
        trainer = begin(scenes_folder, folder, config)
        trainer.train()
        return trainer

    return train


@pytest.fixture(scope="session")
def trained_once(scenes_folder: Path, small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps, each evaluated; not to be changed."""
    from tests.training_runs import begin, short_config

    config = short_config(
        small_base,
        steps=2,
        held_out=0.2,
        evaluation_rows=6,
        evaluation_samples=3,
        sampling_steps=2,
        evaluation_budget=0.0,
        evaluate_every=1,
    )
    folder = tmp_path_factory.mktemp("trained") / "run"
    begin(scenes_folder, folder, config).train()
    return folder


@pytest.fixture
def finished_run(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of the run of two steps."""
    return Path(shutil.copytree(trained_once, tmp_path / "run", symlinks=True))
