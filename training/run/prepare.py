"""What a run trains on, checked before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlmill.bases.base import Facts
from controlmill.bases.registry import read_facts
from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.fingerprint import fingerprint
from controlmill.schemas.maps.transforms import Augment, check_mirror
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.snapshot import Snapshot

from ..config import TrainConfig
from ..data.cache_use import Caches, find_caches
from ..data.filters import Filter
from ..data.loader import Loader, LoaderConfig
from ..data.selection import Selection, check_tables, segments_named, select
from .saved import controlnet_folder


@dataclass(frozen=True)
class Prepared:
    """Rows, condition and base of a run. ``digests`` are of the tables' bytes, the captions and the chosen rows.

    ``dataset`` has the segments up to the last that is trained on, and ``segments`` names these, ``FIRST..LAST``: they
    are stored with the run, which goes on with them also when the dataset has grown since.
    """

    dataset: Dataset
    condition: Condition
    selection: Selection
    facts: Facts
    start_folder: str
    digests: dict[str, str]
    caches: Caches
    segments: str

    @property
    def fingerprint(self) -> str:
        """Of all that is trained on."""
        return fingerprint(self.digests)

    def loader(self, config: TrainConfig) -> Loader:
        """Batches of the training rows."""
        settings = LoaderConfig(config.seed, config.batch_size, Augment(config.crop_size, config.random_flip))
        conditions = {self.condition.table: self.condition}
        return Loader(self.dataset, conditions, self.selection, settings, config.threads, caches=self.caches)

    def base_said(self, config: TrainConfig) -> str:
        """A line for people with the base and the size of the pictures that it knows."""
        size = f"{self.facts.side}x{self.facts.side}"
        return f"base: {config.base} ({size}{', a toy; --base chooses another' if config.base == 'tiny' else ''})"

    def size_said(self, config: TrainConfig) -> str:
        """A line for people where pictures have less than half, or more than twice, the pixels that the base knows."""
        height, width = (config.crop_size, config.crop_size) if config.crop_size else self.selection.shapes()[0]
        side = self.facts.side
        if 1 / 2 <= height * width / side**2 <= 2:
            return ""
        return f"pictures are {width}x{height}, and the base was trained on {side}x{side}: it may sample them badly"

    def provenance(self) -> Provenance:
        """How the condition's table was made."""
        index = self.dataset.index(self.condition.table)
        assert index is not None
        return index.provenance


def prepare(address: str, config: TrainConfig, caches: Sequence[str] | None = None) -> Prepared:
    """Open the dataset, choose the rows, and find out what does not fit.

    ``caches`` are those that a run which goes on began with; what it started from is not asked for again.

    Raises:
        MillError: a table is missing, not complete or stale; no rows are left; sizes do not fit the base; the
            ControlNet to start from belongs to another base.
    """
    config.check()
    opened = Dataset.open(address)
    segments = segments_named(config.segments, opened)
    dataset = Snapshot(opened, segments.stop)
    conditions = check_tables(dataset, [config.condition])
    facts = read_facts(config.base)
    if config.crop_size % facts.multiple:
        raise MillError(f"--crop-size {config.crop_size}: must be a multiple of {facts.multiple} for this base")
    filters = [Filter.parse(text) for text in config.where]
    used = find_caches(dataset, config, facts, caches)
    if config.random_flip:
        check_mirror(conditions[config.condition])
    first_shard = dataset.config.segments[segments[0]].first_shard
    limit = config.max_train_samples
    selection = select(dataset, [config.condition], filters, config.held_out, limit, used.tables, first_shard)
    if not config.crop_size:
        facts.check_sizes(selection.shapes())
    start = controlnet_folder(config.start_from) if config.start_from and caches is None else ""
    if start:
        facts.check_controlnet(start, f"--start-from {config.start_from}")
    parts = {
        "images": _digests(dataset, "images"),
        "captions": plain(dataset.captions()),
        config.condition: _digests(dataset, config.condition),
        "rows": selection.train[["shard", "row"]].tolist(),
        **{table: _digests(dataset, table) for table in used.tables},
    }
    digests = {part: fingerprint(said) for part, said in parts.items()}
    named = f"{segments[0]}..{segments[-1]}"
    return Prepared(dataset, conditions[config.condition], selection, facts, start, digests, used, named)


def _digests(dataset: Dataset, table: str) -> Sequence[str]:
    index = dataset.index(table)
    return index.digests if index else []
