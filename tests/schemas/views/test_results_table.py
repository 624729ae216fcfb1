"""What is said of an evaluation on the terminal."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from controlmill.schemas.results import RESULTS_VERSION, MeasureRecord, PublishedRecord, ResultsRecord, ValueRecord
from controlmill.schemas.views.results_table import results_lines, results_table, self_test_line


def record(value: ValueRecord, *published: PublishedRecord) -> ResultsRecord:
    measures = (MeasureRecord("f1", False, (value,), "f1", published),)
    about = "runs/a", "short", "0" * 64, "canny", "canny", "canny"
    return ResultsRecord(RESULTS_VERSION, *about, 1, ("none",), measures)


def test_chance_and_ceiling_stand_beside_a_value() -> None:
    console = Console(file=StringIO(), width=100)
    console.print(results_table(record(ValueRecord("none", 8, 0.5, 0.4, 0.6, chance=0.123, ceiling=0.987))))
    head, line = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert head.split()[-3:] == ["chance", "ceiling", "rows"]
    assert line.split()[-3:] == ["0.123", "0.987", "8"]


@pytest.mark.parametrize(("low", "is_said"), [(-0.01, True), (0.02, False), (None, False)])
def test_a_value_that_may_be_chance_is_said(low: float | None, is_said: bool) -> None:
    value = ValueRecord("none", 8, 0.5, 0.4, 0.6, chance=0.48, gain_low=low, gain_high=0.05)
    said = [line for line in results_lines(record(value)) if "chance" in line]
    assert bool(said) == is_said
    assert said in ([], ["f1, prompt none: not clearly better than chance: better by -0.01 to 0.05 (95 % interval)"])


def test_too_few_rows_are_said() -> None:
    assert list(results_lines(record(ValueRecord("none", 3, 0.5)))) == ["f1, prompt none: too few rows for an interval"]
    assert list(results_lines(record(ValueRecord("none", 8, 0.5, 0.4, 0.6)))) == []


def test_a_self_test_that_was_done_otherwise_tells_nothing() -> None:
    value, published = ValueRecord("none", 8, 0.5, 0.4, 0.6), PublishedRecord("theirs", 0.55, "a paper")
    assert self_test_line(record(value, published), "f1", "theirs").startswith("self-test: reproduced (published f1")
    otherwise = replace(published, note="not comparable: rows of another dataset")
    said = self_test_line(record(value, otherwise), "f1", "theirs")
    assert said == "self-test: not comparable: rows of another dataset (published f1 of theirs: 0.55; here 0.5)"
