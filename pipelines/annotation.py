"""Make the condition tables of a dataset; :func:`build` ingests it first.

Everything that can be found wrong is found before work starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.terminal.console import output

from .engine.console import run_stage
from .engine.mend import check_committed, mended, redo_aim, set_aside, start_or_resume_redo
from .engine.process import Resources
from .engine.stage import Chain, Plan, Stage, input_folders, outputs_of
from .ingestion import list_corpus, make_images
from .stages.ingest import IngestConfig


def check_overwrite(overwrite: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise MillError where a table to redo is not one that this command makes."""
    for table in overwrite:
        if table == "images" and table not in allowed:
            raise MillError("this command cannot make the images again; use controlmill build … --overwrite images")
        if table not in allowed:
            raise MillError(f"--overwrite {table}: this command makes {', '.join(allowed)}")


def check_conditions(address: str, plan: Plan, overwrite: Sequence[str]) -> dict[str, dict[int, str]]:
    """Find out what would stop the conditions, before anything is changed.

    Returns:
        Of each table that is there and stays, the damaged shards, with what is wrong with them.

    Raises:
        MillError: a table was made in another way, is stale, or will be when the images are redone.
    """
    if not open_storage(address).exists("dataset.json"):
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
    dataset = Dataset.open(address) if open_storage(address).exists("dataset.json") else None
    for stage in plan:
        tables = [
            table
            for table in stage.outputs()
            if table in overwrite or dataset is None or dataset.state(table).status in ("partial", "behind")
        ]
        if tables and list(stage.devices()):
            resources.process.load(stage, tables)


def images_wanted(address: str) -> str:
    """What is said where tables are to be made of images that are not complete."""
    return f"the images of {address} are not complete; run {Dataset.open(address).stopped} again to go on with them"


def build(
    photos: str,
    address: str,
    config: IngestConfig,
    plan: Plan,
    resources: Resources,
    shard_size: int | None = None,
    overwrite: Sequence[str] = (),
) -> Dataset:
    """Ingest a folder and make the planned condition tables. One that was cut off goes on with the same arguments.

    A new dataset is made by one job. Where tables of the plan were begun, the images are completed by a job before.

    Raises:
        MillError: see :func:`ingest` and :func:`annotate`.
    """
    tables = outputs_of(plan)
    load_networks(address, plan, resources, overwrite)
    dataset, corpus = list_corpus(photos, address, config, resources, shard_size, overwrite, input_folders(plan))
    if overwrite or dataset.whole_index("images") or any(dataset.committed(table) for table in tables):
        make_images(dataset, resources, corpus, config.downloads)
        dataset = _annotate(address, plan, resources, overwrite)
    else:  # no table was made from images that are made again now, so that nothing is to be looked at between
        _tell_matches(dataset, plan)
        make_images(dataset, resources, corpus, config.downloads, plan)
        dataset = Dataset.open(address)
    redo.end(dataset.storage, ["images", *tables])  # only now: what is cut off before redoes no table twice
    return dataset


def annotate(address: str, plan: Plan, resources: Resources, overwrite: Sequence[str] = ()) -> Dataset:
    """Make the planned condition tables of a dataset whose images are complete; redo those in ``overwrite``.

    Raises:
        MillError: see :func:`check_conditions` and :func:`console.run_stage`.
    """
    dataset = _annotate(address, plan, resources, overwrite)
    redo.end(dataset.storage, outputs_of(plan))
    return dataset


def _tell_matches(dataset: Dataset, plan: Plan) -> None:
    for stage in plan:
        for line in stage.matches(dataset):
            output.say(line)


def _annotate(address: str, plan: Plan, resources: Resources, overwrite: Sequence[str]) -> Dataset:
    """:func:`annotate`, as a part of work that goes on: redos are not ended."""
    dataset = mended(address)
    images = dataset.whole_index("images")
    if images is None:
        raise MillError(images_wanted(address))
    looked_at = check_conditions(address, plan, overwrite)
    _tell_matches(dataset, plan)
    for table, damaged in looked_at.items():
        set_aside(dataset, table, damaged)
    outputs = outputs_of(plan)
    for stage in plan:
        stage.check_unchanged(dataset, overwrite)
    load_networks(address, plan, resources, overwrite)
    aims = {table: redo_aim(dataset, outputs[table].provenance) for table in overwrite if table in outputs}
    redone = {table for table, aim in aims.items() if start_or_resume_redo(dataset, table, aim)}
    for stage in plan if redone else ():
        _forget_changed(dataset, stage, {table: aims[table] for table in redone.intersection(stage.outputs())})
    grown = dataset.redo(redone)
    for table in aims:  # what is in _redo was not looked at yet
        set_aside(grown, table, check_committed(grown, table, outputs[table].provenance))
    if plan:
        run_stage(grown, Chain(plan), resources, [entry.rows for entry in images.shards])
    return dataset
