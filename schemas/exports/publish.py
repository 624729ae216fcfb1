"""A dataset as a folder for the Hub: its finished tables, pairs that the viewer and other trainers take, and a card."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ..dataset import Dataset
from ..errors import MillError
from ..files.documents import plain
from ..files.shardfile import read_table
from ..files.storage import CONFIG
from ..files.whole import replacing
from ..fingerprint import fingerprint
from ..index import TableState
from ..names import index_file, shard_file
from ..snapshot import Snapshot
from ..tables import BASE_TABLES, CACHES, IMAGES, MEASURED, REJECTED, SOURCES
from ..terminal.printing import printable
from ..views.card import CARD, CardAdditions, HubConfig, dataset_card
from ..views.verify import verify
from .folder import ExportFolder, Part, State
from .job import make_whole
from .plan import Plan, make_plan
from .samples import read_samples
from .targets.diffusers import write_pairs
from .targets.target import PART_BYTES

PAIRS = "_pairs"  # beside the tables: a name with _ is none of a table's
REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
OF_THIS_MACHINE = r"^(/|~|file:|[A-Za-z]:[\\/])"
SECRET = r"(?i)://[^/?#]*@|[?&](X-Amz-Signature|X-Goog-Signature|Signature|sig|token|access_token|api_key|key)="  # noqa: S105
URLS = "urls"  # the kind of corpus whose names are what is left of URLs, which may begin as a path does
ADDRESSES = {SOURCES: ("source", "locator"), IMAGES: ("source",), REJECTED: ("source",)}
LISTED_LICENCES = 20


@dataclass(frozen=True)
class Publication:
    """What is published.

    Args:
        repository: OWNER/NAME on the Hub.
        licence: of the pictures, as the Hub names licences.
        plans: of the pairs, one a condition.
    """

    repository: str
    licence: str
    plans: tuple[Plan, ...]

    @property
    def parts(self) -> list[tuple[Plan, int, range]]:
        """Files of pairs: of which condition, the file's number there, and the shards in it."""
        return [(plan, number, shards) for plan in self.plans for number, shards in enumerate(plan.parts(PART_BYTES))]


def plan_publication(
    dataset: Dataset, repository: str, licence: str, conditions: Sequence[str], folder: Path
) -> Publication:
    """What is to be published.

    Raises:
        MillError: a table is not complete; or an address in the dataset is of this machine, or has a secret in it.
    """
    whole = make_plan(dataset, "pairs", conditions, folder)
    faults = list(private(dataset))
    if faults:
        raise MillError("this would be public:\n  " + "\n  ".join(faults))
    plans = tuple(make_plan(dataset, "pairs", [table], folder) for table in whole.tables)
    return Publication(repository, licence, plans)


def publish(
    dataset: Dataset, publication: Publication, folder: Path, threads: int, say: Callable[[str], None]
) -> State:
    """Write the folder, or what a cut attempt lacks, and check it. Nothing is sent.

    Files of tables are hard links where the dataset is on the same disk, else copies.

    Args:
        dataset: what is published.
        publication: how.
        folder: where, on this machine.
        threads: that encode maps of 16 bits.
        say: takes a line for people, when a part is written.

    Raises:
        MillError: the folder holds something else; or the dataset is damaged.
    """
    export, parts, tables = ExportFolder(folder), publication.parts, published_tables(dataset)

    def write(number: int) -> Part:
        plan, file, shards = parts[number]
        path = export.files / PAIRS / plan.tables[0] / f"{file:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        dropped: Counter[str] = Counter()
        rows = write_pairs(path, read_samples(dataset, plan, shards, dropped, pool), plan)
        return Part(rows, dict(sorted(dropped.items())), path.stat().st_size)

    def names() -> Iterator[str]:
        yield from (CONFIG, *(index_file(table.table) for table in tables))
        yield from (shard_file(table.table, shard) for table in tables for shard in range(dataset.shards))

    def finish(state: State, size: int) -> None:
        for name in names():
            _bring(dataset, name, export.files / name)
        (export.files / CARD).write_text(_card(dataset, publication, tables, export), "utf-8")
        faults = list(verify(Snapshot(Dataset.open(export.files)), pixels=False))
        if faults:
            for name in names():  # what is mended is another file
                (export.files / name).unlink()
            raise MillError("the dataset is damaged:\n  " + "\n  ".join(map(str, faults)))

    wanted = State("publish", "", _digest(publication, tables), "writing", len(parts))
    with ThreadPoolExecutor(threads) as pool:
        return make_whole(export, wanted, write, finish, CARD, say)


def published_tables(dataset: Dataset) -> list[TableState]:
    """Complete tables but caches, which are of one base's encoders and made again in minutes, and measurements."""
    states = [dataset.state(table) for table in dataset.tables() if table not in (*CACHES, *MEASURED)]
    return [state for state in states if state.status == "complete"]


def private(dataset: Dataset) -> Iterator[str]:
    """What of a dataset tells of this machine, or is a secret; a line each. ``_local.json`` is not published anyway."""
    for name in (CONFIG, *(index_file(state.table) for state in published_tables(dataset))):
        found = re.search(r'"(/|~/|file:|[A-Za-z]:\\\\)[^"]*"', dataset.storage.read(name).decode())
        if found:
            yield printable(f"{name}: a path of this machine, {found[0]}")
    kept = [name for name, kind in (dataset.config.ingest.columns or {}).items() if kind == "string"]
    texts = {SOURCES: ["columns"], IMAGES: kept, REJECTED: []}
    for table, columns in ADDRESSES.items():
        for shard in range(dataset.shards):
            with dataset.parquet(table, shard) as file:
                there = set(file.schema_arrow.names)
                read = read_table(file, [name for name in (*columns, *texts[table]) if name in there])
            paths = read.select([name for name in columns if name in there])
            if dataset.config.segments[dataset.config.segment_of(shard)].corpus == URLS:
                # only a line of the list that is no URL stands there as it was
                paths = paths.filter(pc.is_null(read["locator"])) if table == SOURCES else paths.slice(0, 0)
            path = _first(paths, OF_THIS_MACHINE, "a path of this machine")
            told = path or _first(read, SECRET, "an address with a secret")
            if told:
                yield printable(f"{table}, shard {shard}, {told}")
                return


def _first(table: pa.Table, pattern: str, what: str) -> str | None:
    """The first text of a pattern, with its column."""
    for name in table.column_names:
        matches = table[name].filter(pc.fill_null(pc.match_substring_regex(table[name], pattern), False))
        if len(matches):
            return f"{name}: {what}, {matches[0].as_py()[:200]}"
    return None


def _bring(dataset: Dataset, name: str, target: Path) -> None:
    """A file of the dataset under a path on this machine."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if dataset.storage.local:
        try:
            os.link(dataset.storage.path(name), target)
            return
        except OSError:  # another disk, or a file system without links: it is copied
            pass
    with replacing(target) as scratch, dataset.storage.open(name) as source, scratch.open("wb") as file:
        shutil.copyfileobj(source, file)


def _digest(publication: Publication, tables: Sequence[TableState]) -> str:
    plans = [plan.sha256 for plan in publication.plans]
    return fingerprint([publication.repository, publication.licence, plans, [plain(table.index) for table in tables]])


def _card(dataset: Dataset, publication: Publication, tables: Sequence[TableState], export: ExportFolder) -> str:
    configs = [
        HubConfig(
            f"{plan.tables[0]}_pairs",
            f"sha256 of the tables {plan.sha256}",
            f"{PAIRS}/{plan.tables[0]}/*.parquet",
            *_counts(publication, plan, export),
            is_default=plan is publication.plans[0],
        )
        for plan in publication.plans
    ]
    names = ", ".join(f"`{config.name}`" for config in configs)
    text = [
        f"{names}: pictures beside one map, as `image`, `conditioning_image` (8 bits, RGB) and `text`, for the viewer",
        "and for trainers. The other configs are the tables that they were made from, with all that is known of a row.",
        *("", "## Licences", "", f"Pictures: {publication.licence}.", *_kept_licences(dataset)),
        *("", "| table | made by | weights | licence of the weights |", "|---|---|---|---|"),
        *made_by(tables),
    ]
    states = [state for state in tables if state.table != SOURCES]
    added = CardAdditions(
        tuple(configs), (f"license: {publication.licence}",), "\n".join(text) + "\n", publication.repository
    )
    return dataset_card(dataset.config, states, added)


def _counts(publication: Publication, plan: Plan, export: ExportFolder) -> tuple[int, int]:
    """Rows and bytes of a condition's pairs."""
    found = [export.part(number) for number, (of, _, _) in enumerate(publication.parts) if of is plan]
    parts = [part for part in found if part]
    return sum(part.rows for part in parts), sum(part.bytes for part in parts)


def made_by(tables: Sequence[TableState]) -> Iterator[str]:
    """Who made each condition, of which weights and under which licence; lines of a table."""
    for state in tables:
        if state.table in BASE_TABLES or state.index is None:
            continue
        annotator = state.index.provenance.made_by
        weights = annotator.network.weights if annotator.network else ()
        names = ", ".join(f"{one.name} ({one.origin})" for one in weights) or "none"
        licences = ", ".join(dict.fromkeys(one.licence for one in weights))
        if annotator.is_from_files:
            licences = "that of the files that were imported"
        yield _line(state.table, f"{annotator.condition}, {annotator.variant}", names, licences or "none")


def _kept_licences(dataset: Dataset) -> Iterator[str]:
    """Licences that came with the pictures, in the column ``license``, and how many have each."""
    counts: Counter[str] = Counter()
    for shard in range(dataset.shards):
        with dataset.parquet(IMAGES, shard) as file:
            if "license" not in file.schema_arrow.names:
                return
            counts.update(map(str, read_table(file, ["license"])["license"].to_pylist()))
    yield from ("", "As their source tells (column `license` of `images`):", "", "| licence | pictures |", "|---|---|")
    for licence, count in counts.most_common(LISTED_LICENCES):
        yield _line(licence, str(count))
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(LISTED_LICENCES))
    if rest:
        yield _line("others", str(rest))


def _line(*cells: str) -> str:
    """A line of a Markdown table, of text that may come from anywhere."""
    safe = (printable(cell).replace("|", "\\|").replace("<", "&lt;")[:200] for cell in cells)
    return f"| {' | '.join(safe)} |"
