"""Evaluate: pictures for the rows of a dataset, a judge's maps of them, scores, and what these come to.

Results are a dataset like others, made by the same jobs: ``images`` (what was sampled, or given), the judge's table,
``scores``, and ``results.json``. Everything that can be found wrong is found before anything is sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from controlmill.schemas.annotator_records import NetworkRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.documents import plain
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.results import PICTURES, RESULTS, RESULTS_VERSION, SAMPLES, ResultsRecord
from controlmill.schemas.tables import IMAGES, SOURCES, TRUE

from .annotation import annotate
from .corpora.corpus import Source
from .corpora.listing import write_listing
from .engine.console import finish_tables, run_stage
from .engine.mend import check_listing, look_at, mended
from .engine.owners import require_alone
from .engine.process import Resources
from .engine.run_folder import Run
from .engine.stage import Stage
from .ingestion import set_lost_aside
from .results.listing import ChosenRows, Layout
from .results.makers import Maker, results_config
from .results.quality import Quality, made_otherwise
from .results.quality_values import quality_records
from .results.summary import Published, noted, summarised
from .stages.judge import Judge
from .stages.score import Score

MADE = (IMAGES, "rejected")
SAME_MODEL = "the judge is the network that made the true maps, so that its mistakes count as right"


@dataclass(frozen=True)
class Evaluation:
    """What is asked for, checked.

    Args:
        rows: for which rows of which dataset.
        control: the table of the maps that the pictures are to follow.
        truth: the table of the maps that the judge's are compared with.
        layout: the pictures of a row.
        protocol: its name.
        judge: makes maps of the pictures; None where no measure takes any.
        measures: of maps, by name.
        quality: measures of pictures alone.
        published: what measures are printed beside.
    """

    rows: ChosenRows
    control: str
    truth: str
    layout: Layout
    protocol: str
    judge: Judge | None
    measures: tuple[str, ...]
    quality: Quality
    published: Published

    @property
    def source(self) -> Dataset:
        """The dataset whose rows they are."""
        return self.rows.dataset

    def samples(self) -> dict[str, object]:
        """What the pictures are, as :class:`result_records.SamplesRecord` without what made them."""
        return {
            "source_sha256": self.source.sha256(IMAGES),
            "condition": self.control,
            "condition_sha256": self.source.sha256(self.control),
            "protocol": self.protocol,
            "prompts": list(self.layout.prompts),
            "pictures_per_row": self.layout.pictures_per_row,
        }


def evaluate(asked: Evaluation, maker: Maker, address: str, resources: Resources) -> ResultsRecord:
    """Make the results, or go on with them, and sum them up.

    Raises:
        MillError: what is there was made for other rows, by another method or with other settings; pictures that are
            given do not fit; see also :func:`console.run_stage`.
    """
    stage = maker.stage(asked.source, asked.samples())
    results = _listed(asked, maker, address)
    of_source, of_results = asked.quality.references(asked.source, len(asked.rows.places))
    _make(asked.source.storage.address, asked.quality.stage(asked.source, of_source), resources)
    set_lost_aside(results, stage, range(results.shards))
    listed = results.whole_index(SOURCES)
    assert listed is not None
    run_stage(results, stage, resources, [entry.rows for entry in listed.shards])
    finish_tables(results, dict.fromkeys(MADE, ()))
    judged = _judge_and_score(asked, asked.judge, address, resources) if asked.judge else None
    _make(address, asked.quality.stage(Dataset.open(address), asked.quality.tables_of_pictures()), resources)
    true = [f"{TRUE}{table}" for table in of_results]
    _make(address, asked.quality.stage(Dataset.open(address), true, asked.source), resources)
    source = Dataset.open(asked.source.storage.address)
    _make(address, asked.quality.scores(Dataset.open(address), source, of_source), resources)
    results = Dataset.open(address)
    published = _with_notes(asked, results, judged) if judged else asked.published
    measures = (
        *summarised(results, asked.measures, asked.layout.prompts, published),
        *quality_records(asked.quality, results, source, of_source, asked.layout.prompts, published),
    )
    record = ResultsRecord(
        version=RESULTS_VERSION,
        method=maker.method,
        protocol=asked.protocol,
        source_sha256=asked.source.sha256(IMAGES),
        control=asked.control,
        truth=asked.truth,
        judged=judged,
        pictures_per_row=asked.layout.pictures_per_row,
        prompt_kinds=asked.layout.prompts,
        measures=tuple(noted(measures, published.prompts, len(asked.rows.places))),
    )
    results.storage.write_json(RESULTS, record)
    return record


def _judge_and_score(asked: Evaluation, judge: Judge, address: str, resources: Resources) -> str:
    """Make the judge's maps and the scores; the name of the judge's table."""
    _make(address, judge, resources)
    results = Dataset.open(address)
    score = Score(
        *(asked.measures, asked.source.condition(asked.truth)),
        *(judge.table, results.sha256(judge.table)),
        *(asked.source.storage.address, asked.truth, asked.source.sha256(asked.truth)),
        *(judge.chance_table, results.sha256(judge.chance_table)),
        others=asked.rows.others,
    )
    _make(address, score, resources)
    return judge.table


def _check_results(asked: Evaluation, maker: Maker, address: str) -> Iterable[Source]:
    """The listing of the results, made before anything is changed; nothing where one is there already.

    Raises:
        MillError: see :func:`evaluate`.
    """
    storage = open_storage(address)
    if not storage.exists("dataset.json"):
        Dataset.check_free(storage)
        return maker.listing(asked.rows, asked.layout)
    dataset = mended(address)
    config = results_config(asked.source).record()
    kinds = {segment.corpus for segment in dataset.config.segments}
    if dataset.config.ingest.columns != config.columns or not kinds <= {SAMPLES, PICTURES}:
        raise MillError(f"{address} is a dataset, and no results of evaluate: choose another folder for the results")
    if not dataset.config.segments:
        return maker.listing(asked.rows, asked.layout)
    check_listing(dataset)
    before = {"made by": dataset.config.segments[0].corpus, **(dataset.config.segments[0].listed_with or {})}
    _refuse(address, differences(before, {"made by": maker.kind, **maker.listed_with(asked.rows, asked.layout)}))
    wanted = maker.stage(asked.source, asked.samples()).provenance()
    for made, _ in look_at(dataset, IMAGES).made:
        _refuse(address, differences(plain(made), wanted))
    return ()


def _refuse(address: str, changed: Sequence[str]) -> None:
    if changed:
        raise MillError(
            f"{address} holds other results; what differs:\n  " + "\n  ".join(changed) + "\nask for the same again, or "
            "choose another folder"
        )


def _listed(asked: Evaluation, maker: Maker, address: str) -> Dataset:
    """The dataset of the results, with its listing."""
    sources = _check_results(asked, maker, address)
    if not open_storage(address).exists("dataset.json"):
        Dataset.create(address, results_config(asked.source).record())
    dataset = mended(address)
    if not dataset.config.segments:
        require_alone(dataset.storage)
        dataset.drop(SOURCES)  # of a run that was cut off while it listed
        run = Run.start(dataset.storage)
        size = asked.layout.shard_size(len(asked.rows.places))
        try:
            segment = write_listing(dataset, run, iter(sources), maker.kind, shard_size=size)
        finally:
            run.end()
        segment = replace(segment, listed_with=maker.listed_with(asked.rows, asked.layout))
        dataset.append([segment], [asked.source.storage.address])
    if dataset.whole_index(SOURCES) is None:
        dataset.finish(SOURCES, changed=())
    return dataset


def _make(address: str, stage: Stage | None, resources: Resources) -> None:
    """Make a stage's tables; one that was made in another way, or from other maps, is made anew."""
    if stage:
        annotate(address, (stage,), resources, made_otherwise(mended(address), stage))


def _with_notes(asked: Evaluation, results: Dataset, judged: str) -> Published:
    """With a warning at each measure where judge and annotator are one model."""
    judge, annotator = (_network(dataset, table) for dataset, table in ((results, judged), (asked.source, asked.truth)))
    if judge is None or judge != annotator:
        return asked.published
    notes = {
        name: "; ".join(filter(None, (asked.published.notes.get(name, ""), SAME_MODEL))) for name in asked.measures
    }
    return replace(asked.published, notes={**asked.published.notes, **notes})


def _network(dataset: Dataset, table: str) -> NetworkRecord | None:
    index = dataset.index(table)
    return index.provenance.made_by.network if index else None
