"""The commands build, ingest, annotate and encode. Heavy imports wait until a command runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from controlmill.annotators.commands import AcceptLicense
from controlmill.schemas.terminal.console import output, talks

from .networks import Networks, networks_of
from .options import (
    BatchSize,
    BeamOption,
    BuildConditions,
    CaptionsFrom,
    Compile,
    ConditionColumn,
    Conditions,
    DepthOption,
    Device,
    DryRun,
    Dtype,
    FitOption,
    Folder,
    From,
    Invalid,
    Invert,
    LabelSetOption,
    MaxMegabytes,
    MaxMegapixels,
    MinSide,
    Overwrite,
    Photos,
    Resolution,
    Runner,
    ShardSize,
    Threads,
    Weights,
    White,
    Workers,
    ingest_config,
    job_resources,
    map_options,
    tables_to_redo,
)

if TYPE_CHECKING:
    from pathlib import Path

    from controlmill.annotators.catalogue import Choice
    from controlmill.schemas.dataset import Dataset

    from .actions import Plan
    from .engine.console import Resources
    from .stages.columns import Column, MapOptions
    from .stages.ingest import IngestConfig


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (build, ingest, annotate, encode):
        app.command(rich_help_panel="Make a dataset")(talks(command))


def build(
    photos: Photos,
    dataset: Folder,
    conditions: BuildConditions = None,
    resolution: Resolution = 512,
    fit: FitOption = "crop",
    conditions_from: From = None,
    condition_column: ConditionColumn = None,
    label_set: LabelSetOption = None,
    depth: DepthOption = None,
    invalid: Invalid = None,
    invert: Invert = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = "auto",
    compile: Compile = False,
    accept_license: AcceptLicense = None,
    workers: Workers = 0,
    threads: Threads = 0,
    runner: Runner = "FnApiRunner",
    beam_option: BeamOption = None,
    shard_size: ShardSize = 512,
    max_megapixels: MaxMegapixels = 64,
    max_megabytes: MaxMegabytes = 256,
    min_side: MinSide = 64,
    white: White = None,
    overwrite: Overwrite = None,
    dry_run: DryRun = False,
) -> None:
    """A folder of pictures becomes a dataset: ingest, then annotate. Run it again to go on after a stop."""
    from . import actions

    started = time.monotonic()
    redo = tables_to_redo(overwrite)
    config = ingest_config(resolution, fit, max_megapixels, max_megabytes, min_side, white)
    networks = networks_of(weights, device, dtype, batch_size, compile, accept_license, dataset, redo, config)
    if conditions is None:
        conditions = "" if conditions_from else "canny"
    maps = map_options(conditions_from, condition_column, label_set, depth, invalid, invert)
    resources = job_resources(runner, workers, threads, beam_option)
    if dry_run:
        _rehearse(str(photos), dataset, config, conditions, maps, networks, resources, shard_size, redo)
        return
    plan = _plan(conditions, maps, networks, config)
    actions.check_overwrite(redo, ("images", *plan.wanted))
    actions.check_ingest(str(photos), dataset, config, shard_size, redo, plan.folders)
    actions.check_conditions(dataset, plan, redo)
    _say_listing(dataset, redo)
    _say_sources(plan)
    with resources:
        actions.load_networks(dataset, plan, resources, redo)
        actions.ingest(str(photos), dataset, config, resources, shard_size, redo, plan.folders)
        done = actions.annotate(dataset, plan, resources, redo)
    _summary(done, ["images", *plan.wanted], time.monotonic() - started)


def ingest(
    photos: Photos,
    dataset: Folder,
    resolution: Resolution = 512,
    fit: FitOption = "crop",
    conditions_from: From = None,
    condition_column: ConditionColumn = None,
    label_set: LabelSetOption = None,
    depth: DepthOption = None,
    invalid: Invalid = None,
    invert: Invert = None,
    workers: Workers = 0,
    threads: Threads = 0,
    runner: Runner = "FnApiRunner",
    beam_option: BeamOption = None,
    shard_size: ShardSize = 512,
    max_megapixels: MaxMegapixels = 64,
    max_megabytes: MaxMegabytes = 256,
    min_side: MinSide = 64,
    white: White = None,
    overwrite: Overwrite = None,
) -> None:
    """Make the images table of a dataset (and import maps that you have already)."""
    from . import actions

    started = time.monotonic()
    redo = tables_to_redo(overwrite)
    config = ingest_config(resolution, fit, max_megapixels, max_megabytes, min_side, white)
    maps = map_options(conditions_from, condition_column, label_set, depth, invalid, invert)
    plan = _plan(None, maps, config=config)
    resources = job_resources(runner, workers, threads, beam_option)
    actions.check_overwrite(redo, ("images", *plan.wanted))
    actions.check_ingest(str(photos), dataset, config, shard_size, redo, plan.folders)
    actions.check_conditions(dataset, plan, redo)
    _say_listing(dataset, redo)
    _say_sources(plan)
    with resources:
        done = actions.ingest(str(photos), dataset, config, resources, shard_size, redo, plan.folders)
        if plan.stages:
            done = actions.annotate(dataset, plan, resources, redo)
    _summary(done, ["images", *plan.wanted], time.monotonic() - started)


def annotate(
    dataset: Folder,
    conditions: Conditions = "",
    conditions_from: From = None,
    condition_column: ConditionColumn = None,
    label_set: LabelSetOption = None,
    depth: DepthOption = None,
    invalid: Invalid = None,
    invert: Invert = None,
    captions_from: CaptionsFrom = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = "auto",
    compile: Compile = False,
    accept_license: AcceptLicense = None,
    workers: Workers = 0,
    threads: Threads = 0,
    runner: Runner = "FnApiRunner",
    beam_option: BeamOption = None,
    overwrite: Overwrite = None,
) -> None:
    """Add condition tables to a dataset, or redo them. The images are not touched."""
    from . import actions
    from .engine.mend import mended
    from .stages.ingest import IngestConfig

    started = time.monotonic()
    redo = tables_to_redo(overwrite)
    config = IngestConfig.of(mended(dataset))
    networks = networks_of(weights, device, dtype, batch_size, compile, accept_license, dataset, redo, config)
    maps = map_options(conditions_from, condition_column, label_set, depth, invalid, invert)
    plan = _plan(conditions, maps, networks, config, captions_from)
    actions.check_overwrite(redo, tuple(plan.wanted))
    _say_sources(plan)
    with job_resources(runner, workers, threads, beam_option) as resources:
        done = actions.annotate(dataset, plan, resources, redo)
    _summary(done, list(plan.wanted), time.monotonic() - started)


def encode(
    dataset: Folder,
    base: Annotated[str, typer.Option(help="tiny, a folder with a diffusers pipeline, or a name on the hub.")] = "tiny",
    text: Annotated[bool, typer.Option("--text", help="Encode the captions too.")] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Encode horizontally flipped pictures too, for train --random-flip.")
    ] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Store 16 bits: half the size; losses then differ from those without.")
    ] = False,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="Arithmetic: fp32 or bf16 (a VAE in fp16 overflows).")] = "fp32",
    batch_size: Annotated[int, typer.Option(min=0, help="Rows in a forward pass; 0: 1 on a CPU, else 8.")] = 0,
    workers: Workers = 0,
    threads: Threads = 0,
    runner: Runner = "FnApiRunner",
    beam_option: BeamOption = None,
    overwrite: Overwrite = None,
) -> None:
    """Add caches for training: pictures through a base's VAE (and captions through its text encoder), once for all."""
    from controlmill.annotators.base import Placement
    from controlmill.annotators.runtime.torch_device import check_device, resolve_device
    from controlmill.schemas.errors import MillError
    from controlmill.schemas.tables import CACHES, LATENTS

    from . import actions
    from .stages.encode import check_encode, plan_encode

    started = time.monotonic()
    redo = tables_to_redo(overwrite)
    check_device(device)
    if dtype not in ("fp32", "bf16"):
        raise MillError(f"--dtype {dtype}: fp32 or bf16")
    actions.check_overwrite(redo, CACHES if text else (LATENTS,))
    check_encode(dataset, base, text)
    place = Placement(resolve_device(device), dtype)
    plan = plan_encode(dataset, base, place, batch_size, text, flip, "fp16" if half else "fp32", redo)
    with job_resources(runner, workers, threads, beam_option) as resources:
        done = actions.annotate(dataset, plan, resources, redo)
    _summary(done, list(plan.wanted), time.monotonic() - started)


def _plan(
    conditions: str | None,
    maps: MapOptions,
    networks: Networks | None = None,
    config: IngestConfig | None = None,
    captions_from: Path | None = None,
) -> Plan:
    from .actions import plan_conditions

    networks = networks or Networks()
    choices, imports = _asked(conditions, maps, networks, captions_from)
    captions = str(captions_from) if captions_from else None
    return plan_conditions(choices, networks.places, networks.weights, imports, maps.folder, config, captions)


def _asked(
    conditions: str | None, maps: MapOptions, networks: Networks, captions_from: Path | None = None
) -> tuple[list[Choice], Sequence[Column]]:
    """What is to be annotated and what imported."""
    from controlmill.annotators.catalogue import check_licences, parse_conditions
    from controlmill.schemas.errors import MillError

    from .stages.columns import parse_columns

    if conditions == "" and not maps.folder and not captions_from:
        raise MillError("say what to make: --conditions canny,hed (or --conditions-from FOLDER to import maps)")
    choices = parse_conditions(conditions) if conditions else []
    if not any(choice.build().network for choice in choices):
        if networks.compile:
            raise MillError("--compile: none of these conditions has a network")
        if networks.device != "auto":
            output.say(f"--device {networks.device}: none of these conditions has a network, so nothing runs there")
    check_licences(choices, networks.licences)
    return choices, parse_columns(maps) if maps.folder else ()


def _rehearse(
    photos: str,
    dataset: str,
    config: IngestConfig,
    conditions: str,
    maps: MapOptions,
    networks: Networks,
    resources: Resources,
    shard_size: int,
    redo: list[str],
) -> None:
    from .actions import plan_conditions
    from .rehearsal import rehearse

    choices, imports = _asked(conditions, maps, networks)

    def plan() -> Plan:
        return plan_conditions(choices, networks.places, networks.weights, imports, maps.folder, config)

    for line in rehearse(
        photos, dataset, config, choices, imports, plan, networks.weights, resources, shard_size, redo
    ):
        output.say(line)


def _say_listing(address: str, redo: list[str]) -> None:
    from controlmill.schemas.dataset import Dataset
    from controlmill.schemas.files.storage import Storage

    if "images" in redo or not Storage(address).exists("dataset.json"):
        return
    dataset = Dataset.open(address)
    if dataset.shards:
        rows = sum(segment["rows"] for segment in dataset.config["segments"])
        where = f", as listed from {', '.join(dataset.corpora)}" if dataset.corpora else ""
        output.say(
            f"{rows:,} pictures{where}; pictures added since are not taken (--overwrite images lists anew; all that is "
            "made from the images is then to be redone)"
        )


def _say_sources(plan: Plan) -> None:
    """Which maps and weights the conditions are made from."""
    for stage in plan.stages:
        for line in stage.said():
            output.say(line)


def _summary(dataset: Dataset, tables: list[str], seconds: float) -> None:
    from controlmill.schemas import redo
    from controlmill.schemas.views.accounting import accounting
    from controlmill.schemas.views.report import empty_lines, table_report

    from .engine.mend import others_damaged

    redo.end(dataset.storage, tables)
    dataset = dataset.snapshot()
    stale = [table for table in dataset.condition_tables() if dataset.state(table).status == "stale"]
    others = [table for table in dataset.tables() if table not in (*tables, *stale, "sources", "rejected")]
    output.show(table_report(dataset, tables))
    for line in (*empty_lines(dataset, tables), *accounting(dataset)[: None if "images" in tables else 1]):
        output.say(line)
    if others:
        output.say(f"there too, as they were: {', '.join(others)}")
    for line in others_damaged(dataset, tables):
        output.say(line)
    output.say(f"done in {seconds:,.1f} s: {dataset.storage.address}")
    if stale:
        output.say(
            f"stale now, made from earlier images: {', '.join(stale)}; redo them with "
            f"controlmill annotate {dataset.storage.address} --conditions … --overwrite {','.join(stale)}"
        )
