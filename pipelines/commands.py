"""The commands build, ingest, annotate and encode. Heavy imports wait until a command runs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..annotators.commands import AcceptLicense

if TYPE_CHECKING:
    from ..annotators.base import Placement
    from ..annotators.plan import ForwardGroup
    from ..annotators.weights import Found
    from ..schemas.dataset import Dataset
    from .build import Plan
    from .ingest import IngestConfig
    from .jobs import Means

console = Console(stderr=True, highlight=False)

Photos = Annotated[Path, typer.Argument(help="Folder of pictures; folders below it count too.", show_default=False)]
Folder = Annotated[str, typer.Argument(help="The dataset's folder, or an fsspec address.", show_default=False)]
Conditions = Annotated[
    str, typer.Option(help="Comma-separated, e.g. canny,hough=lsd,hed. `controlmill doctor` lists them.")
]
Resolution = Annotated[int, typer.Option(help="Short side after crop, or the square root of a bucket's pixels.")]
FitOption = Annotated[str, typer.Option("--fit", help="crop (centred square), bucket (nearest aspect) or none.")]
MaxMegapixels = Annotated[float, typer.Option(help="Pictures with more are refused from their header, undecoded.")]
MaxMegabytes = Annotated[float, typer.Option(help="Larger files are refused unread.")]
MinSide = Annotated[int, typer.Option(help="Pictures with a shorter side are refused.")]
ShardSize = Annotated[int, typer.Option(min=1, max=100_000, help="Pictures in a shard: what one commit holds.")]
From = Annotated[
    Path | None, typer.Option(help="Folder of maps you have already: one folder per condition, stems as the pictures'.")
]
Column = Annotated[
    list[str] | None, typer.Option(help="NAME=KIND of an imported condition: binary, gray8, gray16, rgb or labels.")
]
Weights = Annotated[Path | None, typer.Option(help="Folder with weight files, named as on the hub.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="fp32, bf16, fp16, or auto: bf16 where the hardware multiplies it natively.")]
BatchSize = Annotated[
    str, typer.Option(help="Pictures in a network's forward pass; auto: known on a CPU, else measured.")
]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile the networks; fixed as dtype is.")]
Workers = Annotated[int, typer.Option(help="Processes on this machine (a Dask cluster); 0: one, without a cluster.")]
Threads = Annotated[int, typer.Option(help="Threads for decoding and encoding in each worker; 0: cores / workers.")]
Runner = Annotated[str, typer.Option(help="Beam runner: FnApiRunner, PortableRunner, FlinkRunner, DataflowRunner…")]
BeamOption = Annotated[
    list[str] | None, typer.Option(help="An option of the Beam runner, e.g. job_endpoint=HOST:PORT.")
]
Overwrite = Annotated[list[str] | None, typer.Option(help="Table to redo, e.g. canny; repeat, or separate by commas.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (build, ingest, annotate, encode):
        app.command(rich_help_panel="Make a dataset")(command)


def build(
    photos: Photos,
    dataset: Folder,
    conditions: Conditions = "canny",
    resolution: Resolution = 512,
    fit: FitOption = "crop",
    conditions_from: From = None,
    condition_column: Column = None,
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
    overwrite: Overwrite = None,
) -> None:
    """A folder of pictures becomes a dataset: ingest, then annotate. Run it again to go on after a stop."""
    from . import build as jobs

    started = time.monotonic()
    redo = _tables(overwrite)
    config = _config(resolution, fit, max_megapixels, max_megabytes, min_side)
    networks = _networks(weights, device, dtype, batch_size, compile, accept_license, dataset, redo, config)
    plan = _plan(conditions, conditions_from, condition_column, networks, config)
    means = _means(runner, workers, threads, beam_option)
    jobs.check_overwrite(redo, ("images", *plan.wanted))
    jobs.check_ingest(str(photos), dataset, config, shard_size, redo)
    jobs.check_conditions(dataset, plan, redo)
    _say_listing(dataset, redo)
    _say_weights(plan)
    with means:
        jobs.ingest(str(photos), dataset, config, means, shard_size, redo)
        done = jobs.annotate(dataset, plan, means, redo)
    _summary(done, ["images", *plan.wanted], time.monotonic() - started)


def ingest(
    photos: Photos,
    dataset: Folder,
    resolution: Resolution = 512,
    fit: FitOption = "crop",
    conditions_from: From = None,
    condition_column: Column = None,
    workers: Workers = 0,
    threads: Threads = 0,
    runner: Runner = "FnApiRunner",
    beam_option: BeamOption = None,
    shard_size: ShardSize = 512,
    max_megapixels: MaxMegapixels = 64,
    max_megabytes: MaxMegabytes = 256,
    min_side: MinSide = 64,
    overwrite: Overwrite = None,
) -> None:
    """Make the images table of a dataset (and import maps that you have already)."""
    from . import build as jobs

    started = time.monotonic()
    redo = _tables(overwrite)
    config = _config(resolution, fit, max_megapixels, max_megabytes, min_side)
    plan = _plan(None, conditions_from, condition_column, config=config)
    means = _means(runner, workers, threads, beam_option)
    jobs.check_overwrite(redo, ("images", *plan.wanted))
    jobs.check_ingest(str(photos), dataset, config, shard_size, redo)
    jobs.check_conditions(dataset, plan, redo)
    _say_listing(dataset, redo)
    with means:
        done = jobs.ingest(str(photos), dataset, config, means, shard_size, redo)
        if plan.stages:
            done = jobs.annotate(dataset, plan, means, redo)
    _summary(done, ["images", *plan.wanted], time.monotonic() - started)


def annotate(
    dataset: Folder,
    conditions: Conditions = "",
    conditions_from: From = None,
    condition_column: Column = None,
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
    from ..schemas.dataset import Dataset
    from . import build as jobs
    from .ingest import IngestConfig

    started = time.monotonic()
    redo = _tables(overwrite)
    config = IngestConfig.of(Dataset.open(dataset))
    networks = _networks(weights, device, dtype, batch_size, compile, accept_license, dataset, redo, config)
    plan = _plan(conditions, conditions_from, condition_column, networks, config)
    jobs.check_overwrite(redo, tuple(plan.wanted))
    _say_weights(plan)
    with _means(runner, workers, threads, beam_option) as means:
        done = jobs.annotate(dataset, plan, means, redo)
    _summary(done, list(plan.wanted), time.monotonic() - started)


def encode(
    dataset: Folder,
    base: Annotated[str, typer.Option(help="tiny, a folder with a diffusers pipeline, or a name on the hub.")] = "tiny",
    text: Annotated[bool, typer.Option("--text", help="Encode the captions too.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Encode mirrored pictures too, for train --mirror.")] = False,
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
    from ..annotators.base import Placement
    from ..annotators.torch_device import resolve_device
    from ..schemas.caches import CACHES, LATENTS
    from ..schemas.errors import MillError
    from . import build as jobs
    from .encode import plan_encode

    started = time.monotonic()
    redo = _tables(overwrite)
    if dtype not in ("fp32", "bf16"):
        raise MillError(f"--dtype {dtype}: fp32 or bf16")
    jobs.check_overwrite(redo, CACHES if text else (LATENTS,))
    place = Placement(resolve_device(device), dtype)
    plan = plan_encode(dataset, base, place, batch_size, text, mirror, "fp16" if half else "fp32", redo)
    with _means(runner, workers, threads, beam_option) as means:
        done = jobs.annotate(dataset, plan, means, redo)
    _summary(done, list(plan.wanted), time.monotonic() - started)


def _config(resolution: int, fit: str, megapixels: float, megabytes: float, min_side: int) -> IngestConfig:
    from ..schemas.errors import MillError
    from .ingest import IngestConfig
    from .pixels import Limits

    if not (0 < megapixels < math.inf and 0 < megabytes < math.inf):
        raise MillError("--max-megapixels and --max-megabytes are numbers greater than 0")
    if fit not in ("crop", "bucket", "none"):
        raise MillError(f"--fit {fit}: choose crop, bucket or none")
    if not 64 <= resolution <= 8192 or resolution % 8:
        raise MillError(f"--resolution {resolution}: from 64 to 8192, in multiples of 8")
    limits = Limits(round(megapixels * 1e6), round(megabytes * 1024 * 1024), min_side)
    return IngestConfig(resolution, fit, limits)  # type: ignore[arg-type]


def _plan(
    conditions: str | None,
    conditions_from: Path | None,
    columns: list[str] | None,
    networks: Networks | None = None,
    config: IngestConfig | None = None,
) -> Plan:
    from ..annotators.catalogue import check_licences, parse_conditions
    from ..schemas.errors import MillError
    from .build import plan_conditions
    from .imported import parse_columns

    if columns and not conditions_from:
        raise MillError("--condition-column needs --conditions-from, the folder that holds the maps")
    if conditions == "" and not conditions_from:
        raise MillError("say what to make: --conditions canny,hed (or --conditions-from FOLDER to import maps)")
    networks = networks or Networks()
    choices = parse_conditions(conditions) if conditions else []
    imports = parse_columns(str(conditions_from), columns or ()) if conditions_from else ()
    if networks.compile and not any(choice.build().network for choice in choices):
        raise MillError("--compile: none of these conditions has a network")
    check_licences(choices, networks.licences)
    return plan_conditions(choices, networks.places, networks.weights, imports, str(conditions_from), config)


def _networks(
    weights: Path | None,
    device: str,
    dtype: str,
    batch_size: str,
    compile: bool,
    licences: list[str] | None,
    dataset: str,
    redo: list[str],
    config: IngestConfig,
) -> Networks:
    from ..schemas.errors import MillError

    if compile and config.fit == "none":
        raise MillError("--compile: pictures of --fit none have any shape, and each would be compiled for itself")
    folder = str(weights) if weights else None
    return Networks(folder, device, dtype, batch_size, compile, tuple(licences or ()), config.resolution, dataset, redo)


@dataclass(frozen=True)
class Networks:
    """The options that are about networks, as given."""

    weights: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: str = "auto"
    compile: bool = False
    licences: Sequence[str] = ()
    resolution: int = 512
    dataset: str | None = None
    redo: Sequence[str] = ()

    def places(self, groups: Sequence[ForwardGroup], weights: Mapping[str, Found]) -> Mapping[str, Placement]:
        """Network name → where it runs. What ``auto`` meant when a dataset's tables were begun, it goes on to mean."""
        from ..annotators.base import Placement
        from ..schemas.conditions import CONDITIONS
        from ..schemas.errors import MillError
        from .batching import best_batch, stored_placements

        if self.batch_size != "auto" and not (self.batch_size.isdigit() and int(self.batch_size)):
            raise MillError(f"--batch-size {self.batch_size}: auto, or 1 or more")
        tables = {
            CONDITIONS[annotator.condition].table: annotator.network
            for group in groups
            for annotator in group.annotators()
            if annotator.network
        }
        if not tables:
            return {}
        from ..annotators.torch_device import resolve_device, resolve_dtype

        device = resolve_device(self.device)
        place = Placement(device=device, dtype=resolve_dtype(self.dtype, device), compile=self.compile)
        kept = {table: network for table, network in tables.items() if table not in self.redo}
        stored = stored_placements(self.dataset, kept) if self.dataset else {}
        places = {}
        for network in set(tables.values()):
            before = stored.get(network.name, {})
            here = replace(place, dtype=before.get("dtype", place.dtype)) if self.dtype == "auto" else place
            if self.batch_size != "auto":
                size = int(self.batch_size)
            elif "batch_size" in before:
                size = before["batch_size"]
            else:
                size = best_batch(network, weights, here, self.resolution)
            places[network.name] = replace(here, batch_size=size)
        return places


def _means(runner: str, workers: int, threads: int, options: list[str] | None) -> Means:
    from ..schemas.errors import MillError
    from .jobs import Engine, Means

    if workers and runner != "FnApiRunner":
        raise MillError("--workers is for this machine; on another --runner its own options set the parallelism")
    if runner == "DirectRunner":
        raise MillError("--runner DirectRunner may download another runner and hang: use FnApiRunner")
    if workers < 0 or threads < 0:
        raise MillError("--workers and --threads are 0 or more")
    return Means(Engine(runner, workers, tuple(options or ())), threads)


def _tables(overwrite: list[str] | None) -> list[str]:
    from ..schemas.conditions import CONDITIONS

    words = [word.strip() for entry in overwrite or () for word in entry.split(",") if word.strip()]
    return [CONDITIONS[word].table if word in CONDITIONS else word for word in words]


def _say_listing(address: str, redo: list[str]) -> None:
    from ..schemas.dataset import Dataset
    from ..schemas.storage import Storage

    if "images" in redo or not Storage(address).exists("dataset.json"):
        return
    for segment in Dataset.open(address).config["segments"]:
        console.print(
            f"{segment['rows']:,} pictures, as listed from {segment['corpus']}; pictures added since are not taken "
            "(--overwrite images lists anew)",
            markup=False,
            soft_wrap=True,
        )


def _say_weights(plan: Plan) -> None:
    for stage in plan.stages:
        for found in getattr(stage, "weights", {}).values():
            console.print(
                f"weights: {found.name} is {found.origin} ({found.licence}), {found.path}", markup=False, soft_wrap=True
            )


def _summary(dataset: Dataset, tables: list[str], seconds: float) -> None:
    from ..schemas.report import table_report

    dataset.end_redo(tables)
    stale = [table for table in dataset.condition_tables() if dataset.state(table).status == "stale"]
    console.print(table_report(dataset, tables))
    console.print(f"done in {seconds:,.1f} s: {dataset.storage.address}", markup=False, soft_wrap=True)
    if stale:
        console.print(
            f"stale now, made from earlier images: {', '.join(stale)}; redo them with "
            f"controlmill annotate {dataset.storage.address} --conditions … --overwrite {','.join(stale)}",
            markup=False,
            soft_wrap=True,
        )
