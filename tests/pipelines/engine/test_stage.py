"""Stages in one job: what each is asked for, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from controlmill.pipelines.engine.stage import Chain, GroupTask, Output, Stage


class Counted(Stage):
    """Makes one table, and counts how often it is asked what it makes."""

    def __init__(self, table: str) -> None:
        self.name = self.table = table
        self.asked = 0

    def outputs(self) -> dict[str, Output]:
        self.asked += 1
        return {self.table: Output(pa.schema([]), {})}

    def tasks(self, dataset: Any, run: Any, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        step: Any = None
        yield GroupTask(tuple(missing), step, (), lambda _: None)


def test_stages_are_not_asked_again_for_each_shard_what_they_make() -> None:
    """It takes longer than to commit a small shard."""
    stages = Counted("images"), Counted("canny")
    chain = Chain(stages)
    wanted = chain.outputs()
    asked = [stage.asked for stage in stages]
    unused: Any = None
    for shard in range(3):
        made = [task.tables for task in chain.tasks(unused, unused, shard, {"canny": wanted["canny"]})]
        assert made == [("canny",)]
    assert [stage.asked for stage in stages] == asked
