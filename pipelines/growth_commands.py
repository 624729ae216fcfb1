"""The commands extend and retry, which append to a dataset. Heavy imports wait until a command runs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from controlmill.schemas.reasons import REASONS
from controlmill.schemas.terminal.console import output
from controlmill.schemas.terminal.options import option
from controlmill.schemas.views.commands import Folder

from .corpora.download_options import DownloadOptions
from .options import AddedOptions, JobOptions, LimitOptions
from .summaries import print_summary

if TYPE_CHECKING:
    from .growing import Growth

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

    def conflicts(self) -> Iterable[str]:
        """Reasons that no picture is refused for."""
        for reason in self.reason:
            if reason not in REASONS:
                yield f"--reason {reason}: there are: {', '.join(REASONS)}"


def extend(
    dataset: Folder,
    more: More,
    amount: ExtendOptions,
    pictures: AddedOptions,
    downloads: DownloadOptions,
    job: JobOptions,
) -> None:
    """Add pictures to a dataset, as new shards. Run `annotate` afterwards to make their maps.

    Nothing that is there is changed. Resolution, fit and kept columns, and what is not given below, are as the dataset
    was begun with.
    """
    from controlmill.schemas.views.duplicates import duplicates

    from .corpora.columns import Columns
    from .corpora.kinds import absolute, check_columns, open_corpus
    from .engine.mend import mended
    from .growing import as_begun
    from .growing import extend as append
    from .stages.ingest import IngestConfig

    started = time.monotonic()
    there = mended(dataset)
    config = replace(pictures.changed(IngestConfig.of(there)), downloads=downloads)
    columns = Columns(pictures.image_column or None, pictures.caption_column or None, config.columns.kept)
    addresses = [as_begun(there, address) for address in dict.fromkeys(map(absolute, more))]
    corpora = [open_corpus(address, columns, downloads) for address in addresses]
    for corpus in corpora:
        check_columns(corpus)
    with job.resources() as resources:
        growth = append(dataset, corpora, resources, config, pictures.shard_size, amount.limit)
    if not growth.segments:
        output.say(f"nothing new: all pictures of {', '.join(more)} are in {dataset} already")
        return
    _print_growth(growth, started)
    for line in duplicates(growth.dataset, growth.shards.start).lines():
        output.say(line)


def retry(
    dataset: Folder,
    which: RetryOptions,
    limits: LimitOptions,
    downloads: DownloadOptions,
    job: JobOptions,
) -> None:
    """Try refused pictures again that may be readable now. They become new shards; run `annotate` afterwards.

    Nothing that is there is changed.
    """
    from controlmill.schemas.retries import refused_pictures

    from .growing import retry as append

    started = time.monotonic()
    with job.resources() as resources:
        growth = append(dataset, resources, which.reason, limits, downloads)
    if growth.segments:
        _print_growth(growth, started)
    else:
        refused = refused_pictures(growth.dataset)
        there = ", ".join(f"{count:,} {reason}" for reason, count in sorted(refused.items()))
        output.say(
            f"nothing to retry: no picture of {dataset} was refused for such a reason, or what was is as it was "
            f"({there or 'none is refused'})"
        )


def _print_growth(growth: Growth, started: float) -> None:
    from controlmill.schemas.views.report import growth_lines

    print_summary(growth.dataset, ["images"], time.monotonic() - started)
    for line in growth_lines(growth.dataset, growth.segments):
        output.say(line)
