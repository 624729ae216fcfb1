"""The jobs as functions: ingest a folder, annotate a dataset. The commands are a thin skin over these.

Everything that can be found wrong is found before work starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from controlmill.annotators.catalogue import Choice
from controlmill.annotators.plan import ForwardGroup, find_weights, forward_groups
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found
from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.records import Segment
from controlmill.schemas.tables import CAPTIONS
from controlmill.schemas.views.accounting import passed_over_lines

from .corpora.corpus import Corpus, PassedOver, Source, write_listing
from .corpora.kinds import absolute, check_kind, open_corpus
from .engine.console import Resources, run_stage
from .engine.mend import check_committed, check_listing, look_at, mended, redo_aim, set_aside, start_or_resume_redo
from .engine.run_folder import Run, require_alone
from .engine.stage import Plan, Stage, input_folders, outputs_of
from .labels.beside import import_of
from .stages.annotate import Annotate
from .stages.columns import Column
from .stages.ingest import Ingest, IngestConfig
from .stages.recaption import Recaption

SAMPLED_SOURCES = 50
LISTING = {"kind": "sources", "listing": {"version": 3}}


# ingest


def check_ingest(
    photos: str,
    address: str,
    config: IngestConfig,
    shard_size: int | None,
    overwrite: Sequence[str],
    leave_out: Sequence[str] = (),
) -> None:
    """Find out what would stop an ingest, before anything is changed.

    ``leave_out`` are folders, of maps, that are not part of the corpus though they may be inside it.

    Raises:
        MillError: no such folder, no pictures in it, or a dataset that was made in another way.
    """
    corpus = open_corpus(photos, config.columns)
    if next(corpus.list(leave_out=(address, *leave_out)), None) is None:
        raise MillError(_no_pictures(corpus, (address, *leave_out)))
    if not Storage(address).exists("dataset.json") or "images" in overwrite:
        return
    dataset = mended(address)
    config = config.typed(corpus)
    before = {**plain(dataset.config.ingest), "shard_size": dataset.config.shard_size}
    changed = differences(before, {**config.provenance(), "shard_size": shard_size or dataset.config.shard_size})
    if changed:
        raise MillError(
            f"{address} was made with other settings; what differs:\n  "
            + "\n  ".join(changed)
            + "\nask for the same again, or redo the images (and then all that is made from them): --overwrite images"
        )
    if dataset.config.segments:
        check_listing(dataset)
    _check_corpus(dataset, corpus)


def _no_pictures(corpus: Corpus, leave_out: Sequence[str]) -> str:
    passed = PassedOver()
    for _ in corpus.list(passed, leave_out):
        pass
    return "\n  ".join([corpus.nothing_listed(), *passed_over_lines(passed.said())])


def ingest(
    photos: str,
    address: str,
    config: IngestConfig,
    resources: Resources,
    shard_size: int | None = None,
    overwrite: Sequence[str] = (),
    leave_out: Sequence[str] = (),
) -> Dataset:
    """List a corpus and make its ``images`` and ``rejected`` tables; goes on where an earlier run stopped.

    Raises:
        MillError: see :func:`check_ingest` and :func:`console.run_stage`.
    """
    dataset = _ingest(photos, address, config, resources, shard_size, overwrite, leave_out)
    redo.end(dataset.storage, ["images"])
    return dataset


def _ingest(
    photos: str,
    address: str,
    config: IngestConfig,
    resources: Resources,
    shard_size: int | None,
    overwrite: Sequence[str],
    leave_out: Sequence[str],
) -> Dataset:
    """:func:`ingest`, as a part of work that goes on: a redo of the images is not ended."""
    check_ingest(photos, address, config, shard_size, overwrite, leave_out)
    corpus = open_corpus(absolute(photos), config.columns)
    stage = Ingest(corpus, config.typed(corpus))
    if Storage(address).exists("dataset.json"):
        dataset = mended(address)
        aim = {**stage.provenance(), "shard_size": shard_size, "corpus": stage.corpus.address}
        if "images" in overwrite and start_or_resume_redo(dataset, "images", aim):
            dataset = dataset.redo_images(stage.config.record(), shard_size)
    else:
        dataset = Dataset.create(address, stage.config.record(), shard_size)
    if not dataset.config.segments:
        resources.process.start()
        _list(dataset, stage.corpus, leave_out)
    listed = dataset.index("sources") or dataset.finish("sources")
    rows = [entry.rows for entry in listed.shards]
    _set_lost_aside(dataset, stage)
    run_stage(dataset, stage, resources, rows)
    return Dataset.open(address)


def _set_lost_aside(dataset: Dataset, stage: Ingest) -> None:
    """Set damaged files aside. The images' file tells what was refused: where it is lost, both are made again."""
    set_aside(dataset, "images", check_committed(dataset, "images", stage.provenance()))
    lost = dataset.committed("rejected") - dataset.committed("images")
    set_aside(dataset, "rejected", {**look_at(dataset, "rejected").damaged, **dict.fromkeys(lost, "")})


def _list(dataset: Dataset, corpus: Corpus, leave_out: Sequence[str]) -> None:
    require_alone(dataset.storage)
    dataset.drop("sources")  # of a run that was cut off while it listed
    run = Run.start(dataset.storage)
    passed = PassedOver()
    try:
        sources = corpus.list(passed, (dataset.storage.address, *leave_out))
        shards, rows = write_listing(dataset, run, sources, LISTING)
    finally:
        run.end()
    if not rows:
        raise MillError(_no_pictures(corpus, (dataset.storage.address, *leave_out)))
    segment = Segment(0, shards, rows, corpus.kind, passed.said(), corpus.listed_with() or None)
    dataset.list_from(corpus.address, segment)


def _check_corpus(dataset: Dataset, corpus: Corpus) -> None:
    """Another corpus's pictures would be refused as missing or changed, or not be looked at without a word.

    Raises:
        MillError: none of the first pictures still to do (or done, where all are) is in the corpus as it was listed.
    """
    if not dataset.config.segments:
        return
    for segment in dataset.config.segments:
        check_kind(segment.corpus, dataset.storage.address)
        changed = differences(segment.listed_with or {}, corpus.listed_with())
        if changed:
            raise MillError(
                f"{dataset.storage.address} was listed in another way: {'; '.join(changed)}\nask for the same again, "
                "or list anew (and then redo all that is made from the images): --overwrite images"
            )
    todo = sorted(set(range(dataset.shards)) - dataset.committed("images"))
    with dataset.parquet("sources", todo[0] if todo else 0) as parquet:
        rows: Iterator[dict[str, Any]] = read_rows(parquet)
        sample = [Source(**row) for row, _ in zip(rows, range(SAMPLED_SOURCES), strict=False) if not row["fault"]]
    if sample and not any(corpus.is_as_listed(source) for source in sample):
        known = f" ({dataset.corpora[0]})" if dataset.corpora else ""
        size = "" if sample[0].size is None else f" of {sample[0].size} bytes"
        raise MillError(
            f"{corpus.address} is not the {corpus.kind} that {dataset.storage.address} was listed from{known}: it has "
            f"no {sample[0].source}{size}; choose another dataset for it, or list anew (and then redo all that is made "
            "from the images): --overwrite images"
        )


# annotate


Places = Callable[[Sequence[ForwardGroup], Mapping[str, Found]], Mapping[str, Placement]]


def everywhere(place: Placement) -> Places:
    """The same placement for every network."""
    return lambda groups, _: {network.name: place for group in groups if (network := group.network())}


def plan_conditions(
    choices: Sequence[Choice],
    places: Places,
    weights_folder: str | None,
    imports: Sequence[Column] = (),
    conditions_from: str | None = None,
    config: IngestConfig | None = None,
    captions_from: str | None = None,
) -> Plan:
    """Stages with the fewest forward passes; all weights are found. ``places`` says where the networks run, given all.

    Raises:
        MillError: weights are missing, all of them listed; or a condition is both annotated and imported.
    """
    taken = {column.condition.table for column in imports} | ({CAPTIONS} if captions_from else set())
    both = {choice.table for choice in choices} & taken
    if both:
        raise MillError(f"{', '.join(sorted(both))}: annotate it or import it, not both")
    stages: list[Stage] = []
    if imports and conditions_from:
        limits = (config or IngestConfig()).limits
        stages.append(import_of(os.path.abspath(conditions_from), imports, limits))
    if captions_from:
        stages.append(Recaption(os.path.abspath(captions_from)))
    if choices:
        weights = {found.name: found for found in find_weights(choices, weights_folder)}
        groups = tuple(forward_groups(choices))
        stages.append(Annotate(groups, weights, places(groups, weights)))
    return tuple(stages)


def check_overwrite(overwrite: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise MillError where a table to redo is not one that this command makes."""
    for table in overwrite:
        if table not in allowed:
            raise MillError(f"--overwrite {table}: this command makes {', '.join(allowed)}")


def check_conditions(address: str, plan: Plan, overwrite: Sequence[str]) -> dict[str, dict[int, str]]:
    """Find out what would stop the conditions, before anything is changed.

    Returns:
        Of each table that is there and stays, the damaged shards, with what is wrong with them.

    Raises:
        MillError: a table was made in another way, is stale, or will be when the images are redone.
    """
    if not Storage(address).exists("dataset.json"):
        return {}
    dataset = mended(address)
    outputs = outputs_of(plan)
    there = [table for table in outputs if table not in overwrite and dataset.committed(table)]
    if "images" in overwrite and there and "images" not in redo.aims(dataset.storage):
        raise MillError(f"redoing the images makes {', '.join(there)} stale: --overwrite images,{','.join(there)}")
    return {table: check_committed(dataset, table, outputs[table].provenance) for table in there}


def _forget_changed(dataset: Dataset, stage: Stage, aims: Mapping[str, Mapping[str, Any]]) -> None:
    """Of tables that are made anew, what was made from a user's files before they changed again is made once more."""
    try:
        stage.check_unchanged(dataset.redo(aims), [table for table in stage.outputs() if table not in aims])
    except MillError:
        for table, aim in aims.items():
            redo.begin(dataset.storage, table, aim)


def load_networks(address: str, plan: Plan, resources: Resources, overwrite: Sequence[str]) -> None:
    """Load, once before anything begins, the networks that there is work for.

    Raises:
        MillError: one cannot be loaded.
    """
    dataset = Dataset.open(address) if Storage(address).exists("dataset.json") else None
    for stage in plan:
        tables = [
            table
            for table in stage.outputs()
            if table in overwrite or dataset is None or dataset.state(table).status == "partial"
        ]
        if tables and list(stage.devices()):
            resources.process.load(stage, tables)


def images_wanted(address: str) -> str:
    """What is said where tables are to be made of images that are not complete."""
    return f"the images of {address} are not complete; run the ingest command again to go on with them"


def build(
    photos: str,
    address: str,
    config: IngestConfig,
    plan: Plan,
    resources: Resources,
    shard_size: int | None = None,
    overwrite: Sequence[str] = (),
) -> Dataset:
    """Ingest a folder, then make the planned condition tables. One that was cut off goes on with the same arguments.

    Raises:
        MillError: see :func:`ingest` and :func:`annotate`.
    """
    load_networks(address, plan, resources, overwrite)
    _ingest(photos, address, config, resources, shard_size, overwrite, input_folders(plan))
    dataset = _annotate(address, plan, resources, overwrite)
    redo.end(dataset.storage, ["images", *outputs_of(plan)])  # only now: what is cut off before redoes no table twice
    return dataset


def annotate(address: str, plan: Plan, resources: Resources, overwrite: Sequence[str] = ()) -> Dataset:
    """Make the planned condition tables of a dataset whose images are complete; redo those in ``overwrite``.

    Raises:
        MillError: see :func:`check_conditions` and :func:`console.run_stage`.
    """
    dataset = _annotate(address, plan, resources, overwrite)
    redo.end(dataset.storage, outputs_of(plan))
    return dataset


def _annotate(address: str, plan: Plan, resources: Resources, overwrite: Sequence[str]) -> Dataset:
    """:func:`annotate`, as a part of work that goes on: redos are not ended."""
    dataset = mended(address)
    images = dataset.index("images")
    if images is None:
        raise MillError(images_wanted(address))
    for table, damaged in check_conditions(address, plan, overwrite).items():
        set_aside(dataset, table, damaged)
    outputs = outputs_of(plan)
    for stage in plan:
        stage.check_unchanged(dataset, overwrite)
    load_networks(address, plan, resources, overwrite)
    aims = {table: redo_aim(dataset, outputs[table].provenance) for table in overwrite if table in outputs}
    redone = {table for table, aim in aims.items() if start_or_resume_redo(dataset, table, aim)}
    for stage in plan if redone else ():
        _forget_changed(dataset, stage, {table: aims[table] for table in redone.intersection(stage.outputs())})
    rows = [entry.rows for entry in images.shards]
    for stage in plan:
        tables = stage.outputs()
        grown = dataset.redo(redone.intersection(tables))
        for table in set(tables).intersection(overwrite):  # what is in _redo was not looked at yet
            set_aside(grown, table, check_committed(grown, table, tables[table].provenance))
        run_stage(grown, stage, resources, rows)
    return dataset
