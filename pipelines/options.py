"""Options that the commands share, and what is made of them. Heavy imports wait until a command runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .engine.console import Resources
    from .stages.columns import MapOptions
    from .stages.ingest import IngestConfig

Photos = Annotated[Path, typer.Argument(help="Folder of pictures; folders below it count too.", show_default=False)]
Folder = Annotated[str, typer.Argument(help="The dataset's folder, or an fsspec address.", show_default=False)]
Conditions = Annotated[
    str,
    typer.Option(
        help="Comma-separated: canny,hough=lsd,hed (see `controlmill doctor`); NAME:hed=safe makes a table NAME."
    ),
]
BuildConditions = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated: canny,hough=lsd,hed (see `controlmill doctor`); NAME:hed=safe makes a table NAME.",
        show_default="canny; none with --conditions-from",
    ),
]
Resolution = Annotated[int, typer.Option(help="Short side after crop, or the square root of a bucket's pixels.")]
FitOption = Annotated[str, typer.Option("--fit", help="crop (centred square), bucket (nearest aspect) or none.")]
MaxMegapixels = Annotated[float, typer.Option(help="Pictures with more are refused from their header, undecoded.")]
MaxMegabytes = Annotated[float, typer.Option(help="Larger files are refused unread.")]
MinSide = Annotated[int, typer.Option(help="Pictures with a shorter side are refused.")]
White = Annotated[
    int | None,
    typer.Option(min=256, max=65534, help="White in 16-bit greys that do not say it, e.g. 4095 for 12 bits."),
]
ShardSize = Annotated[int, typer.Option(min=1, max=100_000, help="Pictures in a shard: what one commit holds.")]
From = Annotated[
    Path | None, typer.Option(help="Folder of maps you have already: one folder per condition, stems as the pictures'.")
]
ConditionColumn = Annotated[
    list[str] | None,
    typer.Option(help="NAME=KIND of a folder that is no known condition: binary, gray8, gray16, rgb or labels."),
]
LabelSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label-set",
        help="What ids of imported labels mean: ade20k-150, ade20k-full, coco-stuff, cityscapes, voc or a .toml file; "
        "NAME=SET where several are imported.",
    ),
]
DepthOption = Annotated[
    list[str] | None,
    typer.Option(
        "--depth",
        help="What imported depth is: metric:SCALE (values in a metre) or inverse; becomes inverse depth, near bright. "
        "[NAME=]MEANING.",
    ),
]
Invalid = Annotated[
    list[str] | None, typer.Option(help="A value of imported depth that means that none is known, e.g. 0; repeat.")
]
Invert = Annotated[
    list[str] | None, typer.Option(help="NAME of imported binary or gray8 maps that are dark on light; repeat.")
]
CaptionsFrom = Annotated[
    Path | None,
    typer.Option(help="Folder whose captions, as they are now, become the table captions: the pictures', or of texts."),
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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write and fetch nothing.")]
Overwrite = Annotated[list[str] | None, typer.Option(help="Table to redo, e.g. canny; repeat, or separate by commas.")]


def ingest_config(
    resolution: int, fit: str, megapixels: float, megabytes: float, min_side: int, white: int | None
) -> IngestConfig:
    """How pictures are taken in; raises MillError where a value is none."""
    from controlmill.schemas.errors import MillError
    from controlmill.schemas.images.formats import Limits

    from .stages.ingest import IngestConfig

    if not (0 < megapixels < math.inf and 0 < megabytes < math.inf):
        raise MillError("--max-megapixels and --max-megabytes are numbers greater than 0")
    if fit not in ("crop", "bucket", "none"):
        raise MillError(f"--fit {fit}: choose crop, bucket or none")
    if not 64 <= resolution <= 8192 or resolution % 8:
        raise MillError(f"--resolution {resolution}: from 64 to 8192, in multiples of 8")
    limits = Limits(round(megapixels * 1e6), round(megabytes * 1024 * 1024), min_side)
    return IngestConfig(resolution, fit, limits, white)  # type: ignore[arg-type]


def map_options(
    folder: Path | None,
    columns: list[str] | None,
    label_set: list[str] | None,
    depth: list[str] | None,
    invalid: list[str] | None,
    invert: list[str] | None,
) -> MapOptions:
    """What is said of a user's maps; raises MillError where nothing says where they are."""
    from .stages.columns import MapOptions

    said = (columns, label_set, depth, invalid, invert)
    options = MapOptions(str(folder) if folder else None, *(tuple(words or ()) for words in said))
    options.check()
    return options


def job_resources(runner: str, workers: int, threads: int, options: list[str] | None) -> Resources:
    """An engine and threads; raises MillError where they do not go together."""
    from controlmill.schemas.errors import MillError

    from .engine.console import Engine, Resources

    if workers and runner != "FnApiRunner":
        raise MillError("--workers is for this machine; on another --runner its own options set the parallelism")
    if runner == "DirectRunner":
        raise MillError("--runner DirectRunner may download another runner and hang: use FnApiRunner")
    if workers < 0 or threads < 0:
        raise MillError("--workers and --threads are 0 or more")
    return Resources(Engine(runner, workers, tuple(options or ())), threads)


def tables_to_redo(overwrite: list[str] | None) -> list[str]:
    """Tables of ``--overwrite``, where a condition stands for its table."""
    from controlmill.schemas.conditions import CONDITIONS

    words = [word.strip() for entry in overwrite or () for word in entry.split(",") if word.strip()]
    return [CONDITIONS[word].table if word in CONDITIONS else word for word in words]
