"""What a build would do, told without doing it: nothing is written, nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence

from controlmill.annotators.examination import source_of
from controlmill.annotators.plan import files_of
from controlmill.annotators.runtime.weights import find
from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.machine import processors
from controlmill.schemas.terminal.printing import counted
from controlmill.schemas.views.accounting import passed_over_lines

from .annotation import check_conditions, check_overwrite
from .corpora.corpus import Corpus
from .corpora.kinds import open_corpus
from .corpora.listing import shard_size_for
from .corpora.passed_over import PassedOver
from .engine.process import Resources
from .engine.stage import Plan, input_folders, outputs_of
from .ingestion import at_commit, check_ingest
from .request import Request
from .stages.annotate import Annotate


def rehearse(
    photos: str, address: str, request: Request, resources: Resources, shard_size: int | None, overwrite: Sequence[str]
) -> list[str]:
    """What would be listed, made, kept and fetched, and where it would run, in lines.

    Raises:
        MillError: what would stop the build.
    """
    choices = request.choices
    storage = open_storage(address)
    lines = ["dry run: nothing is written"]
    there = Dataset.open(address) if storage.exists("dataset.json") else None
    if there is None:
        Dataset.check_free(storage)
    elif _is_cut(there):
        return [*lines, "a command was cut off at its end; the next one ends it first, and then there is more to tell"]
    missing = find(files_of(choices), request.weights, download=False)[1]
    plan = () if missing else request.plan()
    names = [choice.table for choice in choices] + [column.condition.table for column in request.imports]
    tables = list(outputs_of(plan)) if plan else names
    check_overwrite(overwrite, ("images", *tables))
    check_ingest(photos, address, request.config, shard_size, overwrite, input_folders(plan))
    if plan:
        check_conditions(address, plan, overwrite)
    anew = there is None or not there.shards or "images" in overwrite
    found = at_commit(photos, address, overwrite)
    corpus = open_corpus(found, request.config.columns, request.config.downloads)
    lines += _listing(corpus, storage.address, plan, shard_size) if anew else _listed(there)
    lines += [_table(None if anew and table == "images" else there, table, overwrite) for table in ("images", *tables)]
    for stage in plan:
        lines += stage.messages()
        if isinstance(stage, Annotate):
            lines += [
                f"{name} runs on {place.device}, {place.dtype}, batch {place.batch_size}"
                for name, place in stage.places.items()
            ]
    engine = resources.process.engine
    threads = resources.codec_threads() or (processors() if engine.here else "each worker's share of its cores")
    lines += [f"to be fetched: {file.name}, {source_of(file)}" for file in missing]
    return [*lines, f"runner: {engine.title}; threads that decode and encode: {threads}"]


def _is_cut(dataset: Dataset) -> bool:
    """Whether an earlier command has something to end, which would be written."""
    finished = dataset.shards and len(dataset.committed("images")) == dataset.shards
    return bool(redo.cut_switches(dataset.storage) or (finished and dataset.whole_index("images") is None))


def _listing(corpus: Corpus, address: str, plan: Plan, shard_size: int | None) -> list[str]:
    passed = PassedOver()
    rows = sum(1 for _ in corpus.list(passed, (address, *input_folders(plan))))
    shard_size = shard_size or shard_size_for(rows)
    shards = counted(-(-rows // shard_size), "shard")
    found = f"{counted(rows, 'picture')} would be listed from {corpus.address}, {shards} of {shard_size:,}"
    return [found, *passed_over_lines(passed.said(), [(rows, "listed")])]


def _listed(dataset: Dataset | None) -> list[str]:
    assert dataset is not None
    return [f"{counted(dataset.config.rows, 'picture')} listed before, in {counted(dataset.shards, 'shard')}"]


def _table(dataset: Dataset | None, table: str, overwrite: Sequence[str]) -> str:
    """What would become of a table."""
    committed = len(dataset.committed(table)) if dataset else 0
    if dataset is None or not committed:
        return f"{table}: to be made"
    if table in overwrite:
        return f"{table}: to be made anew; the old one stays until the new one is complete"
    if committed < dataset.shards:
        return f"{table}: {dataset.shards - committed:,} of {dataset.shards:,} shards to be made"
    return f"{table}: complete, nothing to be made"
