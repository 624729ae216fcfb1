"""The same bytes from every engine: workers, codec threads and the working folder decide nothing of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlmill.pipelines.engine.messages import Engine
from tests.helpers import LIMITS, WORDS, command_in_new_process, digests, make
from tests.pipelines.engine.portable_services import portable_services


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_make_the_same_bytes(photos: Path, dataset: Path, tmp_path: Path, workers: int) -> None:
    make(photos, tmp_path / "dataset", engine=Engine(workers=workers))
    assert digests(tmp_path / "dataset") == digests(dataset)


def test_another_working_directory_and_codec_threads_make_the_same_bytes(
    photos: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    relative = os.path.relpath(photos, tmp_path)
    done = command_in_new_process("build", relative, "here", *WORDS, *LIMITS, "--threads", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "here") == digests(dataset)


def test_the_portable_runner_with_an_external_worker_makes_the_same_bytes(
    photos: Path, dataset: Path, tmp_path: Path
) -> None:
    with portable_services() as options:
        make(photos, tmp_path / "dataset", engine=Engine("PortableRunner", options=options))
    assert digests(tmp_path / "dataset") == digests(dataset)
