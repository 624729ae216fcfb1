"""What tests of evaluate share: a short protocol, and results of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlmill.evaluations import PROTOCOL, ROWS, Evaluate
from tests.helpers import Ended, command


@pytest.fixture(scope="module")
def protocol(trained_once: Path, small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A protocol of one step."""
    path = tmp_path_factory.mktemp("protocol") / "short.toml"
    folder = next(trained_once.glob("checkpoints/*/controlnet"))
    path.write_text(PROTOCOL.replace("CONTROLNET", str(folder)).replace("BASE", str(small_base)))
    return path


@pytest.fixture(scope="module")
def evaluate(trained_once: Path, scenes_folder: Path, protocol: Path) -> Evaluate:
    """Evaluates the run on rows that it held out."""

    def run(results: Path, *options: str) -> Ended:
        words = ("evaluate", str(trained_once), str(scenes_folder), str(results), "--protocol", str(protocol))
        return command(*words, "--rows", str(ROWS), "--batch-size", "8", "--device", "cpu", *options)

    return run


@pytest.fixture(scope="module")
def results(evaluate: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run; not to be changed."""
    folder = tmp_path_factory.mktemp("results") / "run"
    ended = evaluate(folder)
    assert ended.returncode == 0, ended.stderr
    return folder
