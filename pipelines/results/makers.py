"""What makes the pictures of results: a base with ControlNets, or another method, whose pictures are in a folder."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from controlmill.evaluation.sampling.captioner import Captioner
from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.results import CEILING, PICTURES, RESULT_COLUMNS, SAMPLES

from ..corpora.columns import Columns
from ..corpora.corpus import Source
from ..corpora.folder import FolderCorpus
from ..stages.ingest import Ingest, IngestConfig, IngestStep
from ..stages.listed import ListedStage
from ..stages.sample import Sample
from .listing import ChosenRows, Layout, sample_sources
from .pictures import match
from .sampling import Sampling


def results_config(source: Dataset) -> IngestConfig:
    """How pictures of results are taken in: as they are, with what they were made for."""
    made = IngestConfig.of(source)
    limits = replace(Limits(), max_pixels=made.limits.max_pixels, max_bytes=made.limits.max_bytes, min_side=1)
    return IngestConfig(made.resolution, "none", limits, columns=Columns(kept=tuple(RESULT_COLUMNS.items())))


class Maker(ABC):
    """What makes pictures: the listing of those that are to be made, and the stage that makes them.

    ``has_ceiling``: rows' own pictures go through a base's VAE too.
    """

    kind: ClassVar[str]
    has_ceiling: ClassVar[bool] = False
    method: str  # for people

    def listed_with(self, rows: ChosenRows, layout: Layout) -> dict[str, str]:
        """What the listing depends on, as its segment says it."""
        return layout.listed_with(rows)

    @abstractmethod
    def listing(self, rows: ChosenRows, layout: Layout) -> Iterable[Source]:
        """Every picture of every row, in the order of results.

        Raises:
            MillError: pictures are missing, or do not fit.
        """

    @abstractmethod
    def stage(self, source: Dataset, samples: Mapping[str, Any]) -> ListedStage:
        """The stage; ``samples`` is what provenance says of the pictures beside what made them."""


@dataclass(frozen=True)
class SampledPictures(Maker):
    """Pictures that are sampled here; see :class:`stages.sample.Sample`. ``texts`` are prompts by their kinds."""

    method: str
    sampling: Sampling
    condition: Condition
    texts: Mapping[str, str | None]
    default_prompt: str
    captioner: Captioner | None = None

    kind = SAMPLES
    has_ceiling = True

    def listing(self, rows: ChosenRows, layout: Layout) -> Iterable[Source]:
        """See :meth:`Maker.listing`."""
        return sample_sources(rows, layout, self.texts)

    def listed_with(self, rows: ChosenRows, layout: Layout) -> dict[str, str]:
        """See :meth:`Maker.listed_with`."""
        return {**super().listed_with(rows, layout), CEILING: "the rows' own pictures through the VAE"}

    def stage(self, source: Dataset, samples: Mapping[str, Any]) -> Sample:
        """See :meth:`Maker.stage`."""
        return Sample(
            *(source.storage.address, self.sampling, self.condition, results_config(source)),
            *(samples, self.default_prompt, self.captioner),
        )


@dataclass(frozen=True)
class GivenPictures(Maker):
    """Pictures that another method made, in ``folder``."""

    method: str
    folder: str

    kind = PICTURES

    def listing(self, rows: ChosenRows, layout: Layout) -> Iterable[Source]:
        """See :func:`pictures.match`."""
        return match(self.folder, rows, layout).sources

    def stage(self, source: Dataset, samples: Mapping[str, Any]) -> IngestGiven:
        """See :meth:`Maker.stage`."""
        return IngestGiven(FolderCorpus(os.path.abspath(self.folder)), results_config(source), samples)


@dataclass(frozen=True)
class IngestGiven(Ingest):
    """Takes in the pictures of another method as they are."""

    samples: Mapping[str, Any]

    name = "take in"

    def provenance(self) -> dict[str, Any]:
        """With what the pictures were made for."""
        return {**super().provenance(), "samples": self.samples}

    def step(self) -> IngestStep:
        """What is measured is what the method made, and no JPEG of it."""
        return IngestStep(self.corpus, self.config, lossless=True)
