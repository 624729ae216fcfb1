"""Results that are compared: opened, named, found to be of the same rows; and which of their pictures are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...dataset import Dataset
from ...errors import MillError
from ...files.addresses import open_storage
from ...results import OF_ROW, OF_SHARD, PROMPT_KIND, RESULTS, RESULTS_VERSION, SAMPLE, ResultsRecord, read_results
from ...snapshot import Snapshot
from ...tables import IMAGES, SCORES
from ..lookup import Place
from ..rows import aligned_groups

PLACE_COLUMNS = (OF_SHARD, OF_ROW, PROMPT_KIND, SAMPLE)


class Slot(NamedTuple):
    """Which picture of which source row; results that have the same slots are compared picture by picture."""

    shard: int
    row: int
    prompt_kind: str
    sample: int

    @property
    def place(self) -> Place:
        """Of the source row."""
        return self.shard, self.row


@dataclass(frozen=True)
class Result:
    """A results dataset. ``name`` is short, and no other's among those that are compared."""

    name: str
    dataset: Dataset
    record: ResultsRecord

    @property
    def columns(self) -> dict[str, list[str]]:
        """Table → those of its columns that have measures of single pictures."""
        found: dict[str, list[str]] = {}
        for measure in self.record.measures:
            if measure.column:
                found.setdefault(measure.table or SCORES, []).append(measure.column)
        return found

    @property
    def tables(self) -> tuple[str, ...]:
        """Beside the images: the judge's maps, and what :attr:`columns` are of."""
        judged = [self.record.judged] if self.record.judged else []
        return (*judged, *self.columns)


def open_results(addresses: Sequence[str]) -> list[Result]:
    """Open results of the same source.

    Raises:
        MillError: one is no finished results dataset, or of another source or version than can be compared.
    """
    for address in addresses:
        if not open_storage(address).exists("dataset.json"):
            raise MillError(f"{address} is not a folder of results; make one with: controlmill evaluate")
    opened = [(address, Snapshot(Dataset.open(address))) for address in addresses]
    results = []
    for (address, dataset), name in zip(opened, _names([dataset for _, dataset in opened]), strict=True):
        record = read_results(dataset.storage)
        if record.version != RESULTS_VERSION:
            raise MillError(
                f"{address}: {RESULTS} is of version {record.version}, not {RESULTS_VERSION}: evaluate anew"
            )
        result = Result(name, dataset, record)
        _check_complete(dataset, (IMAGES, *result.tables), "run the evaluate command again")
        results.append(result)
    others = [result.name for result in results if result.record.source_sha256 != results[0].record.source_sha256]
    if others:
        raise MillError(f"{', '.join(others)}: made for other pictures than {results[0].name}: compare these apart")
    return results


def source_of(results: Sequence[Result], address: str = "") -> Dataset:
    """The dataset whose rows the results were made for.

    Args:
        results: of one source.
        address: where it is; "": where the results say that it was on this machine.

    Raises:
        MillError: it is not there, or its pictures changed.
    """
    known = [found for result in results for found in result.dataset.corpora if found]
    if not address and not known:
        raise MillError("the results do not say where their source dataset is here: name it by --source")
    try:
        source = Snapshot(Dataset.open(address or known[0]))
    except MillError as error:
        raise MillError(f"the results' source dataset: {error}; name it by --source") from error
    if source.sha256(IMAGES) != results[0].record.source_sha256:
        raise MillError(f"{source.storage.address} does not have the pictures that the results were made for")
    tables = dict.fromkeys(table for result in results for table in (result.record.control, result.record.truth))
    _check_complete(source, tables, "annotate the source again")
    return source


def _check_complete(dataset: Dataset, tables: Iterable[str], what_to_do: str) -> None:
    for table in tables:
        if dataset.state(table).status != "complete":
            raise MillError(f"{dataset.storage.address}: its table {table} is not complete: {what_to_do}")


def slots_of(result: Result) -> set[Slot]:
    """The pictures that a result has."""
    return {slot for slot, _ in rows_of(result, {IMAGES: []})}


def chosen_places(slots: Sequence[set[Slot]], rows: int) -> list[Place]:
    """Source rows that any of the results has, ascending; the first ``rows``, 0: all."""
    places = sorted({slot.place for those in slots for slot in those})
    return places[:rows] if rows else places


def rows_of(result: Result, columns: dict[str, list[str]]) -> Iterator[tuple[Slot, dict[str, dict[str, Any]]]]:
    """The rows of a result, each with its slot: table → column → value; a row group is in memory at a time.

    Pictures of another kind than of prompts, which are there for the ceiling, are passed over.
    """
    wanted = {**columns, IMAGES: [*columns.get(IMAGES, ()), *PLACE_COLUMNS]}
    for shard in range(result.dataset.shards):
        for _, read in aligned_groups(result.dataset, shard, wanted):
            for number in range(read[IMAGES].num_rows):
                if read[IMAGES].column(PROMPT_KIND)[number].as_py() not in result.record.prompt_kinds:
                    continue
                row = {table: part.slice(number, 1).to_pylist()[0] for table, part in read.items()}
                yield Slot(*(row[IMAGES][name] for name in PLACE_COLUMNS)), row


def _names(datasets: Sequence[Dataset]) -> list[str]:
    """The last parts of the addresses, as few as tell them apart.

    Raises:
        MillError: one is there twice.
    """
    parts = [dataset.storage.address.rstrip("/").split("/") for dataset in datasets]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise MillError(f"the same results are named twice: {', '.join('/'.join(part) for part in parts)}")
