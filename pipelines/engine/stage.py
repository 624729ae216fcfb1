"""A kind of job: which tables it commits, and how those of one shard are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from controlmill.schemas.dataset import Dataset

from .rows import RowStep
from .run_folder import Run


@dataclass(frozen=True)
class Output:
    """A table as a stage commits it.

    Args:
        schema: its columns.
        provenance: how it is made, as its files say it; what is one file's own (``shard``, ``images_sha256``) is added
            where that is written.
    """

    schema: pa.Schema
    provenance: Mapping[str, Any]


@dataclass
class GroupTask:
    """Tables of a shard that are made together: rows through a step, and what writes and commits the outcomes."""

    tables: tuple[str, ...]
    step: RowStep
    rows: Iterable[Any]
    write: Callable[[Iterator[Any]], None]


class Stage(ABC):
    """A kind of job: ingest, annotate… Picklable."""

    name: str

    @abstractmethod
    def outputs(self) -> dict[str, Output]:
        """Table → what is committed of it for each shard: all the tables of the stage.

        The console's answer is what files say; a worker that would make something else refuses to.
        """

    @abstractmethod
    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """What is to be done for the missing tables of a shard, one group after another."""

    def devices(self) -> Iterable[str]:
        """Where its networks run."""
        return ()

    @property
    def waits(self) -> bool:
        """Whether its rows are waited for (downloads), so that a shard leaves its worker idle at times."""
        return False

    def load(self, tables: Iterable[str], here: bool) -> None:  # noqa: B027 most need none
        """Load the networks that make some tables, to find out whether they can be.

        Args:
            tables: what is to be made.
            here: whether this process is the one that works with them; else they are let go of.

        Raises:
            JobFault: one cannot be loaded.
        """

    def check_unchanged(self, dataset: Dataset, overwrite: Sequence[str]) -> None:  # noqa: B027 most read none
        """Compare a user's files with those that the committed tables were made from.

        Raises:
            MillError: they are others, or not there.
        """

    def input_folders(self) -> Iterable[str]:
        """Folders of maps that it reads: they are no part of a corpus, though they may be inside it."""
        return ()

    def messages(self) -> Iterable[str]:
        """What a user is to know of it before it starts, in lines."""
        return ()

    def matches(self, dataset: Dataset) -> Iterable[str]:
        """How the files that it reads fit the pictures of a dataset, in lines.

        Raises:
            MillError: they do not fit at all.
        """
        return ()


Plan = tuple[Stage, ...]


class Chain(Stage):
    """Several stages as one: each shard goes through all of them, one after another, in one job.

    A later stage may read what an earlier one has committed of the same shard, and nothing else of its tables: that
    they are complete is known when the job has ended.
    """

    def __init__(self, stages: Plan):
        self.stages = stages
        self.name = ", ".join(stage.name for stage in stages)
        self._tables = [tuple(stage.outputs()) for stage in stages]  # which takes longer than to commit a small shard

    def outputs(self) -> dict[str, Output]:
        """Of all stages."""
        return outputs_of(self.stages)

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """A stage is asked for its tasks when those of the stages before it are done."""
        for stage, tables in zip(self.stages, self._tables, strict=True):
            lacking = {table: missing[table] for table in tables if table in missing}
            if lacking:
                yield from stage.tasks(dataset, run, shard, lacking)

    def devices(self) -> Iterable[str]:
        """Of all stages."""
        return [device for stage in self.stages for device in stage.devices()]

    @property
    def waits(self) -> bool:
        """Whether one of them does."""
        return any(stage.waits for stage in self.stages)


def outputs_of(plan: Plan) -> dict[str, Output]:
    """Table → what is committed of it, of all stages."""
    return {table: output for stage in plan for table, output in stage.outputs().items()}


def input_folders(plan: Plan) -> tuple[str, ...]:
    """Folders of maps that the stages read."""
    return tuple(folder for stage in plan for folder in stage.input_folders())
