"""What tests of jobs share: a small dataset that a command built, and a bucket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import SMALL_WORDS, command, write_photos
from tests.pipelines.buckets import Bucket, bucket_on_this_machine


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures."""
    return write_photos(tmp_path_factory.mktemp("commands") / "photos", 6)


@pytest.fixture(scope="session")
def built(corpus: Path) -> Path:
    """Their dataset, as the command builds it; not to be changed."""
    target = corpus.parent / "dataset"
    done = command("build", str(corpus), str(target), "--conditions", "canny,hough=lsd", *SMALL_WORDS)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(built, tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """A bucket on an object store."""
    with bucket_on_this_machine() as made:
        yield made
