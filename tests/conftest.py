"""One small corpus, and one dataset made from it without disturbance, for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.helpers import KeptResources, make, write_hostile, write_photos
from tests.training.fixtures import cached_folder, dataset_folder, scenes, settings, small_base, train  # noqa: F401

hypothesis.settings.register_profile("untimed", deadline=None)  # timings decide nothing
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _jobs_end() -> Iterator[None]:
    """Ends the job processes that tests share."""
    yield
    KeptResources.end()


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
