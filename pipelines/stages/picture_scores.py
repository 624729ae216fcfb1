"""Scores of the pictures of results that look at no map, from CLIP's embeddings: a column for each, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlmill.annotators.loading import weights_records
from controlmill.annotators.runtime.weights import Found, on_this_machine
from controlmill.evaluation.features.aesthetic import AESTHETIC, AestheticHead
from controlmill.evaluation.features.distances import clip_score
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import package_versions
from controlmill.schemas.results import OF_ROW, OF_SHARD
from controlmill.schemas.tables import CLIP, CLIP_TEXT, PICTURE_SCORES, TRUE, scores_schema

from ..engine.rows import RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from ..engine.worker import this_worker
from .aligned import aligned_task
from .beside import beside, features_of_rows, place_of

VERSION = 1
CLIP_SCORE, CLIP_AESTHETIC = "clip_score", "clip_aesthetic"
OF_EMBEDDINGS = (CLIP_SCORE, CLIP_AESTHETIC)
TRUE_TEXT = f"{TRUE}{CLIP_TEXT}"


@dataclass(frozen=True)
class PictureScoreStep(RowStep):
    """A picture's embedding, with that of its row's caption → its scores."""

    measures: tuple[str, ...]
    head: Found | None

    def cost(self, row: Mapping[str, Any]) -> int:
        """Two embeddings."""
        return 1 << 13

    def do(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row of scores; without a caption there is no CLIP score.

        Raises:
            Refused: the picture has no embedding, or it has no score, for there is no caption.
        """
        picture, text = row["picture"], row["text"]
        if picture["features"] is None:
            reason, error = picture["reason"], picture["error"]
            raise Refused(reason or "missing", error or "the picture has no embedding")
        embedding = np.asarray([picture["features"]], np.float64)
        scores: dict[str, float] = {}
        if CLIP_SCORE in self.measures and text is not None:
            scores[CLIP_SCORE] = float(clip_score(embedding, np.asarray([text]))[0])
        if self.head is not None:
            scores[CLIP_AESTHETIC] = float(_head(self.head).scores(embedding)[0])
        if not scores:
            raise Refused("missing", "the row has no caption")
        return {PICTURE_SCORES: scores}


def _head(found: Found) -> AestheticHead:
    key = ("aesthetic", found)
    return this_worker().once(key, lambda: AestheticHead(on_this_machine(AESTHETIC, found)), stays=True)


@dataclass(frozen=True)
class PictureScores(Stage):
    """The stage.

    Args:
        measures: of :data:`OF_EMBEDDINGS`.
        features: the tables that they take, with their fingerprints.
        head: the weights of the aesthetic score, where it is asked for.
        source: address of the dataset that has the embeddings of captions; "": the results have them.
    """

    measures: tuple[str, ...]
    features: Mapping[str, str]
    head: Found | None = None
    source: str = ""

    name = "picture scores"

    def outputs(self) -> dict[str, Output]:
        """Table ``picture_scores``."""
        scored = {
            "version": VERSION,
            "measures": list(self.measures),
            "features": dict(self.features),
            "weights": weights_records([AESTHETIC], {AESTHETIC.name: self.head}) if self.head else [],
            "packages": package_versions("numpy"),
        }
        provenance = {"table": PICTURE_SCORES, "kind": PICTURE_SCORES, "picture_scores": scored}
        return {PICTURE_SCORES: Output(scores_schema(self.measures), provenance)}

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """The shard's scores."""

        def completed(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            with dataset.parquet(CLIP, shard) as parquet:
                pictures = read_rows(parquet, ["features", "reason", "error"])
                for (row, text), picture in zip(self._texts(dataset, rows), pictures, strict=True):
                    yield {"key": row["key"], "picture": picture, "text": text}

        step = PictureScoreStep(self.measures, self.head)
        yield aligned_task(dataset, run, shard, missing, step, ("key", OF_SHARD, OF_ROW), completed=completed)

    def _texts(self, dataset: Dataset, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Any]]:
        """Rows of images, each with the embedding of its source row's caption, None where there is none."""
        if CLIP_SCORE not in self.measures:
            yield from ((row, None) for row in rows)
        elif self.source:
            for row, found in beside(rows, Dataset.open(self.source), {CLIP_TEXT: ["features"]}):
                yield row, found[CLIP_TEXT]["features"]
        else:
            key = ("texts", dataset.storage.address, self.features[TRUE_TEXT])
            texts = this_worker().once(key, lambda: features_of_rows(dataset, [CLIP_TEXT])[CLIP_TEXT])
            yield from ((row, texts.get(place_of(row))) for row in rows)
