"""The commands build, ingest, annotate, labels and encode. Heavy imports wait until a command runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controlmill.schemas.terminal.console import output, with_messages
from controlmill.schemas.terminal.options import with_options
from controlmill.schemas.terminal.printing import counted
from controlmill.schemas.views.commands import Folder

from .corpora.download_options import DownloadOptions
from .growth_commands import extend, retry
from .labels.options import KINDS, LabelOptions
from .options import EncodeOptions, IngestOptions, JobOptions, MapOptions, NetworkOptions, tables_to_redo
from .summaries import print_summary

if TYPE_CHECKING:
    from .engine.process import Resources
    from .engine.stage import Plan
    from .request import Request

PHOTOS_HELP = (
    "Pictures: a folder with its subfolders, tars ('corpus/{00000..00099}.tar'), Parquet files ('crawl/*.parquet'), "
    "a list of URLs (urls.csv), hf://datasets/OWNER/NAME, or any of these on s3:// or gs://."
)
Photos = Annotated[str, typer.Argument(help=PHOTOS_HELP, show_default=False)]
CONDITIONS_HELP = (
    "Conditions to make, e.g. canny,hough=lsd,hed (see `controlmill doctor`). NAME:hed=safe gives the table a name."
)
Conditions = Annotated[str | None, typer.Option(help=CONDITIONS_HELP, show_default=False)]
BuildConditions = Annotated[
    str | None, typer.Option(help=CONDITIONS_HELP, show_default="canny; none with --conditions-from")
]
CaptionsFrom = Annotated[
    Path | None,
    typer.Option(help="Read the captions again, from the pictures' folder or a folder of .txt files."),
]
Kind = Annotated[str, typer.Argument(help=f"What they are labels of: {', '.join(KINDS)}.", show_default=False)]
Place = Annotated[Path, typer.Argument(help="The dataset's folder of labels, or its file.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; write and download nothing.")]
Overwrite = Annotated[
    list[str] | None, typer.Option(help="Table to make again, of those that this command makes. Repeatable.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (build, ingest, extend, retry, annotate, labels, encode):
        app.command(rich_help_panel="Make a dataset")(with_messages(with_options(command)))


def build(
    photos: Photos,
    dataset: Folder,
    pictures: IngestOptions,
    downloads: DownloadOptions,
    maps: MapOptions,
    networks: NetworkOptions,
    job: JobOptions,
    conditions: BuildConditions = None,
    overwrite: Overwrite = None,
    dry_run: DryRun = False,
) -> None:
    """Make a dataset from a folder of pictures: ingest, then annotate. Run it again to resume after a stop."""
    started, redo = time.monotonic(), tables_to_redo(overwrite)
    if conditions is None:
        conditions = "" if maps.conditions_from else "canny"
    with _resources(job, dataset, starts=not dry_run) as resources:
        from .engine.machines import machines_of
        from .request import parse_request

        config, machines = pictures.config(downloads), machines_of(resources.process.engine)
        request = parse_request(dataset, config, redo, maps, networks, conditions, machines=machines)
        _print_unused_device(request)
        if dry_run:
            from .rehearsal import rehearse

            for line in rehearse(photos, dataset, request, resources, pictures.shard_size, redo):
                output.say(line)
        else:
            _build(photos, dataset, pictures, downloads, request.plan(), resources, redo, started)


def ingest(
    photos: Photos,
    dataset: Folder,
    pictures: IngestOptions,
    downloads: DownloadOptions,
    maps: MapOptions,
    job: JobOptions,
    overwrite: Overwrite = None,
) -> None:
    """Make the images table of a dataset, and import maps that you have already."""
    started, redo = time.monotonic(), tables_to_redo(overwrite)
    with _resources(job, dataset) as resources:
        from .request import parse_request

        plan = parse_request(dataset, pictures.config(downloads), redo, maps, NetworkOptions(), None).plan()
        _build(photos, dataset, pictures, downloads, plan, resources, redo, started)


@contextmanager
def _resources(job: JobOptions, address: str, starts: bool = True) -> Iterator[Resources]:
    """What a job works with. A dataset that is new has work: its process gets ready beside this one's own imports."""
    from .engine.imports import import_arrow

    with job.resources() as resources:
        if starts and not Path(address, "dataset.json").exists():
            resources.process.start()
        import_arrow()
        yield resources


def _build(
    photos: str,
    address: str,
    pictures: IngestOptions,
    downloads: DownloadOptions,
    plan: Plan,
    resources: Resources,
    redo: list[str],
    started: float,
) -> None:
    """Check all that is asked for, then ingest, and annotate as far as there is a plan for it."""
    from . import annotation, ingestion
    from .engine.stage import input_folders, outputs_of

    config, shard_size, tables = pictures.config(downloads), pictures.shard_size, ("images", *outputs_of(plan))
    annotation.check_overwrite(redo, tables)
    ingestion.check_ingest(photos, address, config, shard_size, redo, input_folders(plan))
    annotation.check_conditions(address, plan, redo)
    _print_listing(address, redo)
    _print_sources(plan)
    dataset = annotation.build(photos, address, config, plan, resources, shard_size, redo)
    print_summary(dataset, list(tables), time.monotonic() - started)


def annotate(
    dataset: Folder,
    maps: MapOptions,
    networks: NetworkOptions,
    job: JobOptions,
    conditions: Conditions = None,
    captions_from: CaptionsFrom = None,
    overwrite: Overwrite = None,
) -> None:
    """Add condition tables to a dataset, or make them again. The images are not touched.

    Without --conditions, finished tables are brought up to date: the shards that extend or retry added are made.
    """
    from . import annotation
    from .catching_up import plan_stored
    from .engine.machines import machines_of
    from .engine.mend import mended
    from .engine.stage import outputs_of
    from .request import parse_request
    from .stages.ingest import IngestConfig

    started, redo = time.monotonic(), tables_to_redo(overwrite)
    config = IngestConfig.of(mended(dataset))
    with job.resources() as resources:
        machines = machines_of(resources.process.engine)
        if conditions is None and maps.conditions_from is None and captions_from is None:
            plan = plan_stored(mended(dataset), networks, machines, redo)
        else:
            request = parse_request(dataset, config, redo, maps, networks, conditions or "", captions_from, machines)
            _print_unused_device(request)
            plan = request.plan()
        annotation.check_overwrite(redo, tuple(outputs_of(plan)))
        _print_sources(plan)
        done = annotation.annotate(dataset, plan, resources, redo)
    print_summary(done, list(outputs_of(plan)), time.monotonic() - started)


def labels(
    dataset: Folder, kind: Kind, place: Place, options: LabelOptions, job: JobOptions, overwrite: Overwrite = None
) -> None:
    """Add the labels that a known dataset ships (ADE20K, COCO, KITTI…) as a table, each matched with its picture."""
    from . import annotation
    from .engine.mend import mended
    from .engine.stage import outputs_of
    from .labels.layouts import find_source
    from .stages.import_maps import Import
    from .stages.ingest import IngestConfig

    started, redo = time.monotonic(), tables_to_redo(overwrite)
    source = find_source(kind, str(place), options)
    plan = (Import((source,), IngestConfig.of(mended(dataset)).limits),)
    annotation.check_overwrite(redo, tuple(outputs_of(plan)))
    _print_sources(plan)
    with job.resources() as resources:
        done = annotation.annotate(dataset, plan, resources, redo)
    print_summary(done, list(outputs_of(plan)), time.monotonic() - started)


def encode(dataset: Folder, caches: EncodeOptions, job: JobOptions, overwrite: Overwrite = None) -> None:
    """Cache pictures as a base's VAE latents (and captions as text embeddings), so that training encodes nothing."""
    from controlmill.annotators.runtime.placement import Placement
    from controlmill.schemas.tables import CACHES, LATENTS

    from . import annotation
    from .engine.machines import machines_of
    from .engine.stage import outputs_of
    from .stages.encode import check_encode, plan_encode

    started, redo = time.monotonic(), tables_to_redo(overwrite)
    annotation.check_overwrite(redo, CACHES if caches.text else (LATENTS,))
    check_encode(dataset, caches.base, caches.text)
    stored = "fp16" if caches.half else "fp32"
    with job.resources() as resources:
        place = Placement(*machines_of(resources.process.engine).settle(caches.device, caches.dtype))
        plan = plan_encode(dataset, caches.base, place, caches.batch_size, caches.text, caches.flip, stored, redo)
        done = annotation.annotate(dataset, plan, resources, redo)
    print_summary(done, list(outputs_of(plan)), time.monotonic() - started)


def _print_unused_device(request: Request) -> None:
    from .request import NETWORKLESS

    if request.unused_device:
        output.say(f"--device {request.unused_device}: {NETWORKLESS}, so nothing runs there")


def _print_listing(address: str, redo: list[str]) -> None:
    from controlmill.schemas.dataset import Dataset
    from controlmill.schemas.files.addresses import open_storage

    if "images" in redo or not open_storage(address).exists("dataset.json"):
        return
    dataset = Dataset.open(address)
    if dataset.shards:
        known = ", ".join(dict.fromkeys(corpus for corpus in dataset.corpora if corpus))
        where = f", listed from {known}" if known else ""
        output.say(
            f"{counted(dataset.config.rows, 'picture')}{where}; pictures added since then are not included "
            f"(controlmill extend {address} takes them in)"
        )


def _print_sources(plan: Plan) -> None:
    """Which maps and weights the conditions are made from."""
    for stage in plan:
        for line in stage.messages():
            output.say(line)
