"""An annotator that tests can hold up: so they know which processes are in mid-shard, without looking at a clock."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from controlmill.annotators.base import Annotation, Annotator
from controlmill.annotators.catalogue import Choice
from tests.processes import wait_until

PLACE = "TEST_MEETING"  # a folder; each process marks in it that it is there, and waits while there is a file "closed"


def present(place: Path) -> set[int]:
    """Processes that have come."""
    return {int(path.name) for path in place.glob("[0-9]*")}


@dataclass(frozen=True)
class Meeting(Annotator):
    """The first channel, once the meeting is over."""

    condition: ClassVar[str] = "cartoon"
    variant: ClassVar[str] = "meeting"
    packages: ClassVar[tuple[str, ...]] = ()

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        if place := os.environ.get(PLACE):
            Path(place, str(os.getpid())).touch()
            wait_until(lambda: not Path(place, "closed").exists())
        return Annotation(np.ascontiguousarray(image[..., 0]))


MEETING = Choice("cartoon", "meeting", "tests.pipelines.cluster.meeting:Meeting")
