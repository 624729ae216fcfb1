"""Progress tells rows, not shards: while the first shard is under way it has a rate and a time to go."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from controlmill.pipelines.engine import attempts
from controlmill.pipelines.engine.estimate import Costs, Count
from controlmill.pipelines.engine.faults import Failure
from controlmill.pipelines.engine.progress import Progress
from controlmill.pipelines.engine.run_folder import Run
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.terminal.console import Output


@pytest.fixture
def images(dataset: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(dataset, tmp_path / "dataset")
    return Dataset.open(tmp_path / "dataset")


def slowly(*outcomes: object) -> Iterator[object]:
    for outcome in outcomes:
        time.sleep(0.02)
        yield outcome


def said_of(images: Dataset, run: Run, *tables: str) -> str:
    """What progress says now of tables that nobody has begun, apart from what attempts note."""
    index = images.index("images")
    assert index is not None
    out = Output()
    out.console = Console(file=io.StringIO(), width=200)
    rows = [entry.rows for entry in index.shards]
    with Progress(images, "annotate", rows, {table: set() for table in tables}, run, out):
        pass  # it looks once more at its end
    return out.console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined,no-any-return]


def test_rows_of_a_shard_under_way_are_told(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attempts.NOTE_SECONDS, True, 0.0)
    run = Run.start(images.storage)
    assert "0/10 images, 0.0 images/s" in said_of(images, run, "depth")
    counted = run.begin(0).count(("depth",), slowly({}, Failure("failed", "a reason"), {}, {}))
    for _ in range(3):
        next(counted)
    said = said_of(images, run, "depth")
    assert "0/4 shards, 3/10 images" in said
    assert "1 refused" in said
    assert re.search(r"[1-9]\d*\.\d images/s", said)
    assert re.search(r", 0:00:0\d left", said)
    again = run.begin(0).count(("depth",), iter([{}]))  # its worker died: what it did is not done
    next(again)
    assert "1/10 images" in said_of(images, run, "depth")
    run.finish(0)
    assert "0/10 images" in said_of(images, run, "depth")


def test_the_first_of_many_tables_promises_nothing_for_the_others(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attempts.NOTE_SECONDS, True, 0.0)
    run = Run.start(images.storage)
    attempt = run.begin(0)
    assert len(list(attempt.count(("depth", "normals"), slowly({}, {})))) == 2
    said = said_of(images, run, "depth", "normals", "hed")
    assert "1/10 images" in said  # two of three tables of two images
    assert "at least" in said
    next(attempt.count(("hed",), slowly({})))
    assert "at least" not in said_of(images, run, "depth", "normals", "hed")


def test_a_note_never_brings_back_a_mark_that_is_gone(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attempts.NOTE_SECONDS, True, 0.0)
    run = Run.start(images.storage)
    counted = run.begin(0).count(("depth",), iter([{}, {}]))
    next(counted)
    run.finish(0)
    next(counted)
    assert run.attempts() == {}
    assert not images.storage.files(f"_run/{run.id}/attempts")


def test_notes_are_few_and_fewer_on_a_store(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run, noted = Run.start(images.storage), []
    monkeypatch.setattr(attempts.Attempt, "_note", lambda attempt: noted.append(attempt.works[0]["rows"]))
    for _ in run.begin(0).count(("depth",), iter([{}] * 1000)):
        pass
    assert len(noted) <= 1  # they took less than a second
    assert attempts.NOTE_SECONDS[False] >= 10


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 100), min_size=1), st.data())
def test_the_time_to_go_is_what_the_costs_say(costs: dict[str, float], data: st.DataObject) -> None:
    total = 1000
    before = {table: data.draw(st.integers(0, 500)) for table in costs}
    rows = {table: data.draw(st.integers(had + 1, total)) for table, had in before.items()}
    spent = sum(costs[table] * (rows[table] - before[table]) for table in costs)
    to_go = sum(costs[table] * (total - rows[table]) for table in costs)
    left = Count(total, before, rows, costs).left(spent / 4)  # four workers
    assert left is not None
    assert left == (pytest.approx(to_go / 4), True)


def test_costs_add_up_over_looks_and_begin_anew_with_an_attempt() -> None:
    costs = Costs()
    for rows in (1, 3, 2):  # the last is of another attempt
        costs.take({0: {"works": [{"tables": ["a", "b"], "rows": rows, "seconds": 4.0 * rows}]}})
    assert costs.by_table() == {"a": 2.0, "b": 2.0}
    assert costs.spent["a"] == (5, 10.0)


def test_the_bar_ends_also_where_the_last_look_fails(images: Dataset) -> None:
    out = Output()
    out.console = Console(file=io.StringIO(), force_terminal=True)
    progress = Progress(images, "annotate", [1], {"depth": set()}, None, out)
    with pytest.raises(OSError, match="no disk"), progress:
        raise_at_looks(progress)
    assert progress._bar is not None
    assert not progress._bar.live.is_started


def raise_at_looks(progress: Progress) -> None:
    def look() -> None:
        raise OSError("no disk")

    progress._look = look  # type: ignore[method-assign]
