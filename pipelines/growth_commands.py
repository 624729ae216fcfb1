"""The commands extend and retry, which append to a dataset. Heavy imports wait until a command runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlmill.schemas.errors import MillError
from controlmill.schemas.terminal.console import output
from controlmill.schemas.terminal.options import Given, flag_of, option
from controlmill.schemas.views.commands import Folder

from .corpora.download_options import DownloadOptions
from .options import IngestOptions, JobOptions
from .summaries import print_summary

if TYPE_CHECKING:
    from controlmill.schemas.dataset import Dataset

    from .growing import Growth
    from .stages.ingest import IngestConfig

More = Annotated[
    list[str], typer.Argument(help="Pictures to add: folders, archives… as for build.", show_default=False)
]


@dataclass(frozen=True)
class ExtendOptions:
    """How much is added."""

    limit: int = option(0, "Add at most this many new pictures of each corpus; 0: all.")


@dataclass(frozen=True)
class RetryOptions:
    """What is taken again."""

    reason: tuple[str, ...] = option(
        (), "Take again what was refused for this reason; without it, for any that may have changed. Repeatable."
    )


def extend(
    dataset: Folder,
    more: More,
    amount: ExtendOptions,
    pictures: Annotated[dict[str, Any], Given(IngestOptions)],
    downloads: DownloadOptions,
    job: JobOptions,
) -> None:
    """Add pictures to a dataset, as new shards. Run `annotate` afterwards to make their maps.

    Nothing that is there is changed. Settings of pictures that are not given are the dataset's; --resolution, --fit and
    --keep-columns are the same for all of it.
    """
    from controlmill.schemas.views.duplicates import duplicates

    from .corpora.columns import Columns
    from .corpora.kinds import absolute, open_corpus
    from .engine.mend import mended
    from .growing import extend as append

    started, opened = time.monotonic(), mended(dataset)
    config = replace(_settings(opened, pictures), downloads=downloads)
    kept = config.columns.kept
    columns = Columns(pictures.get("image_column") or None, pictures.get("caption_column") or None, kept)
    corpora = [open_corpus(address, columns, downloads) for address in dict.fromkeys(map(absolute, more))]
    with job.resources() as resources:
        growth = append(dataset, corpora, resources, config, pictures.get("shard_size"), amount.limit)
    if not growth.segments:
        output.say(f"nothing new: all pictures of {', '.join(more)} are in {dataset} already")
        return
    _print_growth(growth, started)
    for line in duplicates(growth.dataset, growth.shards.start).lines():
        output.say(line)


def retry(
    dataset: Folder,
    which: RetryOptions,
    pictures: Annotated[dict[str, Any], Given(IngestOptions)],
    downloads: DownloadOptions,
    job: JobOptions,
) -> None:
    """Try refused pictures again that may be readable now. They become new shards; run `annotate` afterwards.

    Nothing that is there is changed. Settings of pictures that are not given are as they were; --resolution, --fit,
    --shard-size and the columns cannot be changed.
    """
    from .engine.mend import mended
    from .growing import retry as append

    started, opened = time.monotonic(), mended(dataset)
    for name in ("shard_size", "image_column", "caption_column"):
        if name in pictures:
            raise MillError(f"{flag_of(name)}: a retry takes shards and columns as they were listed")
    config = _settings(opened, pictures) if pictures else None
    with job.resources() as resources:
        growth = append(dataset, resources, which.reason, config, downloads)
    if growth.segments:
        _print_growth(growth, started)
    else:
        output.say(f"nothing to retry: no picture of {dataset} was refused for such a reason")


def _settings(dataset: Dataset, given: Mapping[str, Any]) -> IngestConfig:
    """The dataset's settings, with those that were given.

    Raises:
        MillError: one was given that all pictures of a dataset share.
    """
    from .stages.ingest import IngestConfig

    begun = IngestConfig.of(dataset)
    asked = IngestOptions(**given).config(DownloadOptions())
    for name, flag in (("resolution", "--resolution"), ("fit", "--fit")):
        if name in given and getattr(asked, name) != getattr(begun, name):
            raise MillError(f"{flag} {given[name]}: all pictures of this dataset have {getattr(begun, name)}")
    if given.get("keep_columns"):
        raise MillError("--keep-columns: the columns that a dataset keeps are chosen when it is begun")
    limits = begun.limits
    for name, flag in (("max_pixels", "max_megapixels"), ("max_bytes", "max_megabytes"), ("min_side", "min_side")):
        if flag in given:
            limits = replace(limits, **{name: getattr(asked.limits, name)})
    return replace(begun, limits=limits, white=asked.white if "white_level" in given else begun.white)


def _print_growth(growth: Growth, started: float) -> None:
    from controlmill.schemas.views.report import growth_lines

    print_summary(growth.dataset, ["images"], time.monotonic() - started)
    for line in growth_lines(growth.dataset, growth.segments):
        output.say(line)
