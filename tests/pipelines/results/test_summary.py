"""What stands beside a measure's values."""

from __future__ import annotations

from controlmill.pipelines.results.summary import noted
from controlmill.schemas.results import MeasureRecord, PublishedRecord, ValueRecord

VALUES = (ValueRecord("none", 8, 0.3), ValueRecord("user", 8, 0.4, note="much too high"))


def notes(*published: PublishedRecord) -> list[str]:
    (measure,) = noted([MeasureRecord("f1", False, VALUES, "f1", published)], ("user",), 8)
    return [value.note for value in measure.values]


def test_published_values_are_not_comparable_with_those_of_other_prompts() -> None:
    assert notes(PublishedRecord("theirs", 0.5, "a paper")) == [
        "published values are of prompts user: not comparable",
        "much too high",
    ]
    assert notes() == ["", "much too high"]
    assert notes(PublishedRecord("theirs", 0.5, "a paper", note="not comparable: another judge")) == [
        "",
        "much too high",
    ]


def test_rows_that_have_no_value_are_counted() -> None:
    left_out = ValueRecord("none", 0, note="left out")
    (measure,) = noted([MeasureRecord("f1", False, (*VALUES, left_out), "f1")], ("user",), 12)
    assert [value.note for value in measure.values] == [
        "4 of 12 rows have no value and count for nothing",
        "much too high; 4 of 12 rows have no value and count for nothing",
        "left out",
    ]
