"""From the drawing of the corpus to the page, with trainings of two steps in this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from controlmill.schemas.errors import MillError
from recipes.reproduce.__main__ import main, reproduce
from recipes.reproduce.experiments import Training, trainings
from recipes.reproduce.results import Result, read_results
from recipes.reproduce.training import Scale, train_and_measure

FAMILIAR = Training(
    "main", steps=2, evaluate_every=1, rows=40, measured=("prompts", "weighting", "half", "masked", "benefit")
)
DEPTH = Training(
    "condition", "depth", steps=2, evaluate_every=1, rows=40, measured=("judged", "added"), beside=FAMILIAR
)
TUNED = Training("architecture", connection="input", steps=2, evaluate_every=1, rows=40, measured=("half",))
CHOSEN = [FAMILIAR, DEPTH, TUNED]


class InThisThread:
    """In place of a pool of threads: training takes signals, which come to the first thread alone."""

    def __init__(self, workers: int) -> None: ...

    def __enter__(self) -> InThisThread:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, do: Callable[[Training], bool], trainings: Sequence[Training]) -> list[bool]:
        return [do(training) for training in trainings]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scale], list[str]]:
    """Lets commands and trainings run in this process; gives the names of trainings as they begin."""
    from tests.helpers import command
    from tests.training_runs import forget_precision

    def controlmill(arguments: Sequence[Any], log: Path) -> None:
        forget_precision()
        ended = command(*map(str, arguments))
        assert ended.returncode == 0, ended.stderr

    for module in ("corpus", "training"):
        monkeypatch.setattr(f"recipes.reproduce.{module}.controlmill", controlmill)
    monkeypatch.setattr("recipes.reproduce.__main__.ThreadPoolExecutor", InThisThread)
    begun: list[str] = []

    def begin(scale: Scale) -> list[str]:
        def small(folder: Path, results: Path, training: Training, asked: Scale) -> Result:
            assert asked.base == scale.base
            return train_and_measure(folder, results, training, scale)

        def python(module: str, words: Sequence[Any], log: Path) -> None:
            begun.append(words[-1])
            monkeypatch.setattr("sys.argv", [module, *map(str, words)])
            main()

        monkeypatch.setattr("recipes.reproduce.__main__.trainings", lambda: CHOSEN)
        monkeypatch.setattr("recipes.reproduce.__main__.train_and_measure", small)
        monkeypatch.setattr("recipes.reproduce.__main__.python", python)
        return begun

    return begin


def test_from_the_corpus_to_the_page_and_on(
    small_base: Path, tmp_path: Path, in_this_process: Callable[[Scale], list[str]]
) -> None:
    scale = Scale(
        scenes=60,
        batch_size=4,
        probes=3,
        sampling_steps=1,
        evaluation_rows=4,
        held_out=0.3,
        judge_steps=1,
        judge_scenes=4,
        base=str(small_base),
    )
    page, results = tmp_path / "docs" / "reproduce.md", tmp_path / "docs" / "reproduce" / "results"
    page.parent.mkdir()
    begun = in_this_process(scale)
    assert reproduce(tmp_path / "work", page, CHOSEN[:1], scale) == 1
    text = page.read_text()
    assert "**1 of 1 trainings are finished**" in text
    assert "All of it was run." in text
    assert re.search(r"\| conflicting: usual colours \| \d\.\d{3} \|", text)
    for name in ("curves", FAMILIAR.name):
        assert f"(reproduce/{name}.png)" in text
        assert (results.parent / f"{name}.png").stat().st_size > 1000
    assert reproduce(tmp_path / "work", page, CHOSEN, scale) == 2, "what is finished is not done again"
    assert begun == [training.name for training in CHOSEN]
    familiar, depth, tuned = read_results(results, CHOSEN, scale.conditions)
    assert "/" not in familiar.made_with.base
    outside = familiar.mean("masked", "outside")
    assert outside is not None
    assert outside <= 1
    assert set(depth.measured["added"]) == {f"{n}: {c}" for n in ("depth", "canny", "both") for c in ("depth", "canny")}
    assert [look.step for look in familiar.looks] == [0, 1, 2]
    assert tuned.measured["half"]


def test_a_training_that_fails_lets_nothing_more_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def fails(module: str, words: Sequence[Any], log: Path) -> None:
        begun.append(words[-1])
        raise MillError("no space")

    monkeypatch.setattr("recipes.reproduce.__main__.python", fails)
    monkeypatch.setattr("recipes.reproduce.__main__.build", lambda *_: None)
    monkeypatch.setattr("recipes.reproduce.__main__.SIDE_BY_SIDE", 1)
    monkeypatch.setattr("recipes.reproduce.judge.the_judge", lambda *_: None)
    page = tmp_path / "reproduce.md"
    with pytest.raises(MillError, match="no space"):
        reproduce(tmp_path / "work", page, CHOSEN, Scale())
    assert begun == [FAMILIAR.name]
    assert "**0 of 3 trainings are finished**" in page.read_text()


def test_the_page_alone_begins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.reproduce.__main__.build", pytest.fail)
    page = tmp_path / "reproduce.md"
    assert reproduce(tmp_path / "work", page, trainings(), Scale(), minutes=0) == 0
    assert "No result yet: " in page.read_text()
