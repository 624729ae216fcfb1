"""Image quality of results: which measures that look at no map are asked for, and the stages that make their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controlmill.annotators.runtime.weights import Found, missing_message
from controlmill.evaluation.features.aesthetic import AESTHETIC
from controlmill.evaluation.features.catalogue import PICTURE_MEASURES, find_feature_weights, without_weights
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.documents import plain
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.tables import CLIP, CLIP_TEXT, IMAGES

from ..engine.mend import look_at
from ..engine.stage import Stage
from ..stages.features import Features, plan_features
from ..stages.picture_scores import CLIP_AESTHETIC, CLIP_SCORE, OF_EMBEDDINGS, TRUE_TEXT, PictureScores


@dataclass(frozen=True)
class Quality:
    """Measures of pictures that are asked for.

    Args:
        measures: by name.
        weights: that were found.
        lacking: those measures that lack weights, and ``missing``, what to do about it.
        device: where networks run.
        of_groups: whether a distance between sets is the mean over j of that of picture j of every row.
    """

    measures: tuple[str, ...] = ()
    weights: Mapping[str, Found] | None = None
    lacking: tuple[str, ...] = ()
    missing: str = ""
    device: str = "cpu"
    of_groups: bool = False

    def messages(self) -> Iterator[str]:
        """What is left out, and why."""
        if self.lacking:
            yield f"{', '.join(self.lacking)} left out: {self.missing}"

    @property
    def taken(self) -> list[str]:
        """The measures that can be taken."""
        return [name for name in self.measures if name not in self.lacking]

    def references(self, source: Dataset, rows: int) -> tuple[list[str], list[str]]:
        """The tables of features that they take of the source's rows: (those of the source, those of the results).

        A table of the source holds features of all its rows, for all evaluations. So it is used where it is there as it
        would be made now, and made where at least half of the rows are evaluated; else the results have their own.
        """
        index = source.whole_index(IMAGES)
        most = index is not None and 2 * rows >= sum(shard.rows for shard in index.shards)
        tables = dict.fromkeys(table for name in self.taken for table in PICTURE_MEASURES[name].of_source)
        whole = [table for table in tables if most or self._is_made(source, table)]
        return whole, [table for table in tables if table not in whole]

    def _is_made(self, source: Dataset, table: str) -> bool:
        stage = self.stage(source, [table])
        assert stage is not None
        return source.state(table).status == "complete" and not made_otherwise(source, stage)

    def tables_of_pictures(self) -> list[str]:
        """The tables of features that they take of the pictures themselves."""
        return [*dict.fromkeys(table for name in self.taken for table in PICTURE_MEASURES[name].tables)]

    def scores(self, results: Dataset, source: Dataset, of_source: Sequence[str]) -> PictureScores | None:
        """The stage that scores single pictures by embeddings, which are complete; None where none is asked for.

        Args:
            results: whose pictures.
            source: the dataset that they were made for.
            of_source: the tables of features of its rows that it has itself.
        """
        measures = tuple(name for name in OF_EMBEDDINGS if name in self.taken)
        if not measures:
            return None
        features, address = {CLIP: results.sha256(CLIP)}, ""
        if CLIP_SCORE in measures and CLIP_TEXT in of_source:
            features[CLIP_TEXT], address = source.sha256(CLIP_TEXT), source.storage.address
        elif CLIP_SCORE in measures:
            features[TRUE_TEXT] = results.sha256(TRUE_TEXT)
        head = (self.weights or {}).get(AESTHETIC.name) if CLIP_AESTHETIC in measures else None
        return PictureScores(measures, features, head, address)

    def stage(self, dataset: Dataset, tables: Sequence[str], source: Dataset | None = None) -> Features | None:
        """The stage that makes tables, of a dataset or, with ``source``, of the rows that results were made for."""
        return plan_features(dataset, tables, self.weights or {}, self.device, source=source) if tables else None


def made_otherwise(dataset: Dataset, stage: Stage) -> list[str]:
    """Tables that were made in another way than a stage makes them, or from other images."""
    found = []
    for table, output in stage.outputs().items():
        seen = look_at(dataset, table) if dataset.committed(table) else None
        if seen and (seen.stale or any(differences(plain(made), output.provenance) for made, _ in seen.made)):
            found.append(table)
    return found


def find_quality(measures: Sequence[str], folder: str | None, device: str, of_groups: bool) -> Quality:
    """The measures, with the weights of their networks as far as they are found.

    Raises:
        MillError: a file of weights is not what it should be.
    """
    weights, missing = find_feature_weights(measures, folder)
    lacking = tuple(without_weights(measures, weights))
    message = missing_message(missing, folder) if missing else ""
    return Quality(tuple(measures), weights, lacking, message, device, of_groups)
