"""The options of build, ingest, annotate and encode. Light: nothing here loads what a command works with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from controlmill.annotators.options import AutoDtype, device_option, license_option, weights_option
from controlmill.schemas.errors import MillError
from controlmill.schemas.images.formats import Fit
from controlmill.schemas.terminal.options import flag_of, option, unset
from controlmill.schemas.terminal.ranges import Range

from .corpora.download_options import DownloadOptions
from .engine.cluster_address import POSSIBLE, parse_cluster
from .engine.messages import RUNNERS, is_runner

if TYPE_CHECKING:
    from .engine.messages import Engine
    from .engine.process import Resources
    from .stages.ingest import IngestConfig

MEGABYTE = 1024 * 1024
AS_BEFORE = "as before"


@dataclass(frozen=True)
class IngestOptions:
    """How pictures are taken in."""

    resolution: int = option(
        512,
        "Short side of a stored picture in pixels; with --fit bucket, the square root of its area.",
        within=Range(64, 8192, multiple_of=8),
        panel="Pictures",
    )
    fit: Fit = option(
        "crop", "crop: a centred square. bucket: the nearest of several aspect ratios. none: the picture as it is."
    )
    max_megapixels: float = option(64, "Refuse larger pictures; read from the header.", within=Range(open_low=True))
    max_megabytes: float = option(256, "Refuse larger files, unread.", within=Range(open_low=True))
    min_side: int = option(64, "Refuse pictures with a shorter side, in pixels.")
    white_level: int | None = option(
        None,
        "Value of white in 16-bit grey pictures that do not state it, e.g. 4095 for 12 bits.",
        within=Range(256, 65534),
        shown="65535",
    )
    shard_size: int | None = option(
        None,
        "Pictures in a shard, the unit of work and of resuming.",
        within=Range(1, 100_000),
        shown="a 16th of the pictures, 16 to 512",
    )

    image_column: str = option(
        "",
        "Column of the pictures (Parquet) or URLs (lists), or the ending of the pictures in tars, e.g. jpg.",
        shown="found by its type",
        panel="Columns",
    )
    caption_column: str = option(
        "",
        "Column or JSON field of the captions.",
        shown="caption, text, prompt or captions",
    )
    keep_columns: tuple[str, ...] = option(
        (),
        "Columns or JSON fields to keep in the table images, e.g. license,similarity:float64. NAME[:TYPE], repeatable.",
    )

    def config(self, downloads: DownloadOptions) -> IngestConfig:
        """As the dataset stores it.

        Raises:
            MillError: a column cannot be kept.
        """
        from controlmill.schemas.images.formats import Limits

        from .corpora.columns import parse_columns
        from .stages.ingest import IngestConfig

        limits = Limits(round(self.max_megapixels * 1e6), round(self.max_megabytes * MEGABYTE), self.min_side)
        columns = parse_columns(self.image_column or None, self.caption_column or None, self.keep_columns)
        return IngestConfig(self.resolution, self.fit, limits, self.white_level, columns, downloads)


def by_flags(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ingest as a dataset stores them, by the flags and in the units that they are given in."""
    limits, kept = settings["limits"], settings.get("columns") or {}
    given = {
        "version of ingest": settings["version"],
        "--resolution": settings["resolution"],
        "--fit": settings["fit"],
        "--max-megapixels": limits["max_pixels"] / 1e6,
        "--max-megabytes": limits["max_bytes"] / MEGABYTE,
        "--min-side": limits["min_side"],
        "--white-level": settings["white"],
        "--shard-size": settings["shard_size"],
        "--keep-columns": ",".join(f"{name}:{kind}" for name, kind in sorted(kept.items())) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class LimitOptions:
    """What may differ where pictures are added to a dataset, or taken again; None: as before."""

    max_megapixels: float | None = unset(IngestOptions, "max_megapixels", shown=AS_BEFORE, panel="Pictures")
    max_megabytes: float | None = unset(IngestOptions, "max_megabytes", shown=AS_BEFORE)
    min_side: int | None = unset(IngestOptions, "min_side", shown=AS_BEFORE)
    white_level: int | None = unset(IngestOptions, "white_level", shown=AS_BEFORE)

    def changed(self, before: IngestConfig) -> IngestConfig:
        """The settings with what was given."""
        limits = before.limits
        if self.max_megapixels is not None:
            limits = replace(limits, max_pixels=round(self.max_megapixels * 1e6))
        if self.max_megabytes is not None:
            limits = replace(limits, max_bytes=round(self.max_megabytes * MEGABYTE))
        if self.min_side is not None:
            limits = replace(limits, min_side=self.min_side)
        return replace(before, limits=limits, white=before.white if self.white_level is None else self.white_level)


@dataclass(frozen=True)
class AddedOptions(LimitOptions):
    """How pictures are added to a dataset."""

    shard_size: int | None = unset(IngestOptions, "shard_size")
    image_column: str | None = unset(IngestOptions, "image_column", panel="Columns")
    caption_column: str | None = unset(IngestOptions, "caption_column")


@dataclass(frozen=True)
class MapOptions:
    """A user's maps that are imported, and how their values are read.

    The values of ``label_set``, ``depth`` and ``invalid_depth`` are for one table, ``NAME=VALUE``, or a bare ``VALUE``
    where one such table is imported.
    """

    conditions_from: Path | None = option(
        None,
        "Import maps from this folder: one folder per condition, files named like their pictures.",
        panel="Import maps",
    )
    condition_kind: tuple[str, ...] = option(
        (), "NAME=KIND of a folder that is no known condition: binary, gray8, gray16, rgb or labels. Repeatable."
    )
    label_set: tuple[str, ...] = option(
        (),
        "Classes of label maps: ade20k-150, ade20k-full, coco-stuff, cityscapes, voc… or a .toml file. [NAME=]SET, "
        "repeatable.",
    )
    depth: tuple[str, ...] = option(
        (),
        "Values of depth maps: metric:SCALE (SCALE units per metre) or inverse (near is large). [NAME=]VALUES, "
        "repeatable.",
    )
    invalid_depth: tuple[str, ...] = option(
        (), "A value of depth maps that stands for unknown, e.g. 0. [NAME=]VALUE, repeatable."
    )
    invert: tuple[str, ...] = option((), "NAME of binary or gray8 maps that are dark on light. Repeatable.")

    def conflicts(self) -> Iterable[str]:
        """Options that have no maps to be about."""
        for name in ("condition_kind", "label_set", "depth", "invalid_depth", "invert"):
            if getattr(self, name) and not self.conditions_from:
                yield f"{flag_of(name)} needs --conditions-from, the folder that holds the maps"


@dataclass(frozen=True)
class NetworkOptions:
    """Annotators' networks: their weights and how they run."""

    weights: Path | None = weights_option(panel="Networks")
    device: str = device_option()
    dtype: AutoDtype = option("auto", "Number format of the networks. auto: bf16 where the hardware has it, else fp32.")
    batch_size: str = option(
        "auto",
        "Pictures per forward pass: a number, or auto (on a GPU measured once).",
        pattern="auto|0*[1-9][0-9]*",
        possible="auto, or 1 or more",
    )
    compile: bool = option(False, "Compile the networks with torch.compile. Part of a table's provenance, as dtype is.")
    accept_license: tuple[str, ...] = license_option()


@dataclass(frozen=True)
class JobOptions:
    """What a job runs on."""

    workers: int = option(0, "Worker processes on this machine; 0: a single process, without Dask.", panel="Machine")
    threads: int = option(0, "Threads per worker for decoding and encoding; 0: cores / workers.")
    runner: str = option("FnApiRunner", "Beam runner, e.g. PortableRunner, FlinkRunner or DataflowRunner.")
    beam_option: tuple[str, ...] = option((), "An option of the Beam runner, e.g. job_endpoint=HOST:PORT. Repeatable.")
    cluster: str = option("", f"Run on a cluster: {POSSIBLE}.", shown="this machine")
    cluster_page: str = option(
        "", "Page of a Spark master, e.g. http://HOST:8080.", shown="port 8080 of the master's host"
    )
    job_server_jar: Path | None = option(
        None, "Beam's job server for a Flink or Spark cluster.", shown="the one in ~/.apache_beam/cache/jars that fits"
    )
    give_up_after: float = option(
        600, "Seconds without a sign of any worker of a cluster after which a job ends; 0: never.", within=Range(0)
    )

    def conflicts(self) -> Iterable[str]:
        """Runners that do not go with workers or a cluster, or do not work at all."""
        if self.cluster:
            try:
                parse_cluster(self.cluster)
            except MillError as error:
                yield f"--cluster {error}"
            if self.workers:
                yield "--workers is for this machine; a --cluster has workers of its own"
            if self.runner != "FnApiRunner":
                yield f"--cluster and --runner {self.runner} both say what runs the job: give one of them"
        if self.cluster_page and not self.cluster.startswith("spark://"):
            yield "--cluster-page is for --cluster spark://…"
        if self.job_server_jar and not self.cluster.startswith(("flink://", "spark://")):
            yield "--job-server-jar is for --cluster flink://… or spark://…"
        if self.workers and self.runner != "FnApiRunner":
            yield f"--workers is for this machine; --runner {self.runner} sets the parallelism by its own --beam-option"
        if not is_runner(self.runner):
            known = ", ".join(name for name in RUNNERS if "Direct" not in name)  # those may hang
            yield f"--runner {self.runner}: Beam has {known}; for another, give its class, module.NAME"
        if self.runner == "DirectRunner":
            yield "--runner DirectRunner may download another runner and hang: use FnApiRunner"

    def engine(self) -> Engine:
        """What runs the job."""
        from .engine.messages import Engine, Waits

        return Engine(
            self.runner,
            self.workers,
            self.beam_option,
            parse_cluster(self.cluster) if self.cluster else None,
            self.cluster_page,
            str(self.job_server_jar or ""),
            Waits(give_up=self.give_up_after),
        )

    def resources(self) -> Resources:
        """The engine and its threads.

        Raises:
            MillError: the engine cannot take a job.
        """
        from .engine.process import Resources

        return Resources(self.engine(), self.threads)


@dataclass(frozen=True)
class EncodeOptions:
    """What encode caches, and how its networks run."""

    base: str = option("tiny", "Base model: tiny, a diffusers folder, a .safetensors file or a name on the Hub.")
    text: bool = option(False, "Encode the captions too.")
    flip: bool = option(False, "Encode horizontally flipped pictures too, for train --random-flip.")
    half: bool = option(False, "Store 16-bit floats: half the size, slightly other losses.")
    device: str = device_option()
    dtype: Literal["fp32", "bf16"] = option("fp32", "Number format of the networks (a VAE overflows in fp16).")
    batch_size: int = option(0, "Rows per forward pass; 0: 1 on a CPU, 8 elsewhere.")


def tables_to_redo(overwrite: Sequence[str] | None) -> list[str]:
    """Tables of ``--overwrite``, where a condition stands for its table."""
    from controlmill.schemas.conditions import CONDITIONS

    words = [word.strip() for entry in overwrite or () for word in entry.split(",") if word.strip()]
    return [CONDITIONS[word].table if word in CONDITIONS else word for word in words]
