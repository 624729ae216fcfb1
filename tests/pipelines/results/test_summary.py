"""What stands beside a measure's values."""

from __future__ import annotations

from controlmill.pipelines.results.summary import prompts_noted
from controlmill.schemas.results import MeasureRecord, PublishedRecord, ValueRecord

VALUES = (ValueRecord("none", 8, 0.3), ValueRecord("user", 8, 0.4, note="much too high"))


def notes(*published: PublishedRecord) -> list[str]:
    (noted,) = prompts_noted([MeasureRecord("f1", False, VALUES, "f1", published)], ("user",))
    return [value.note for value in noted.values]


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
