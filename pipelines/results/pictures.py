"""Pictures that another method made, matched with the rows that they were made for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import open_picture
from controlmill.schemas.tables import IMAGES
from controlmill.schemas.views.lookup import rows_at

from ..corpora.corpus import Source
from ..corpora.folder import FolderCorpus
from .listing import ChosenRows, Layout, columns_of, stem

LIMITS = Limits(min_side=1)
SHOWN = 8  # names in a message
READERS = 4


@dataclass(frozen=True)
class Matched:
    """The pictures of all rows, in the order of results; ``unused`` are those of rows that are not evaluated."""

    sources: list[Source]
    unused: int


def match(folder: str, rows: ChosenRows, layout: Layout) -> Matched:
    """Find each row's pictures by its source without ending: picture j is ``NAME_j`` or ``group_j/NAME``.

    With one picture a row it may be called ``NAME`` alone.

    Raises:
        MillError: pictures are missing, belong to no row, are there twice, or have another size than their row.
    """
    corpus = FolderCorpus(folder)
    found: dict[str, list[Source]] = {}
    for source in corpus.list():
        found.setdefault(stem(source.source), []).append(source)
    kind = layout.prompts[0]
    listed: list[Source] = []
    missing: list[str] = []
    twice: list[str] = []
    taken: set[str] = set()
    for place, name, caption in rows.sources():
        for sample in range(layout.pictures_per_row):
            names = names_of(stem(name), sample, layout.pictures_per_row)
            fits = [source for wanted in names for source in found.get(wanted, ())]
            taken.update(names)
            if not fits:
                missing.append(names[0])
            elif len(fits) > 1:
                twice.append(" and ".join(source.source for source in fits))
            else:
                columns = columns_of(place, kind, sample)
                listed.append(as_picture_of(fits[0], caption if kind == "user" else None, columns))
    left = [source.source for name, those in found.items() if name not in taken for source in those]
    known = _names_of_all(rows.dataset, layout.pictures_per_row) if left else set[str]()
    extra = [name for name in left if stem(name) not in known]
    faults = [
        _fault(folder, missing, f"of {len(rows.places):,} rows ({rows.text}) pictures are missing"),
        _fault(folder, extra, "pictures of no row of the dataset"),
        _fault(folder, twice, "pictures are there twice"),
    ]
    if any(faults):
        raise MillError(
            "\n".join(fault for fault in faults if fault)
            + "\npicture j of a row is NAME_j.png or group_j/NAME.png, NAME being the row's source without its ending"
        )
    _check_sizes(corpus, rows, layout, listed)
    return Matched(listed, len(left))


def names_of(name: str, sample: int, pictures: int) -> list[str]:
    """What picture ``sample`` of a row may be called, without its ending."""
    return [f"{name}_{sample}", f"group_{sample}/{name}", *([name] if pictures == 1 else [])]


def as_picture_of(source: Source, caption: str | None, columns: str) -> Source:
    """A listed file with the prompt that it was made for; text files beside it are not looked at."""
    return source._replace(caption=caption, texts=None, columns=columns)


def _names_of_all(dataset: Dataset, pictures: int) -> set[str]:
    known: set[str] = set()
    for shard in range(dataset.shards):
        with dataset.parquet(IMAGES, shard) as parquet:
            for row in read_rows(parquet, ["source"]):
                for sample in range(pictures):
                    known.update(names_of(stem(row["source"]), sample, pictures))
    return known


def _check_sizes(corpus: FolderCorpus, rows: ChosenRows, layout: Layout, listed: Sequence[Source]) -> None:
    def size(source: Source) -> tuple[int, int] | str:
        try:
            return open_picture(corpus.path(source.source).read_bytes(), LIMITS).size
        except Refused as refused:
            return f"{source.source} cannot be read: {refused.reason}, {refused.error}"
        except OSError as error:
            return f"{source.source} cannot be read: {error.strerror}"

    def wanted() -> Iterator[tuple[int, int]]:
        for row in rows_at(rows.dataset, {IMAGES: ["width", "height"]}, rows.places):
            yield from [(row[IMAGES]["width"], row[IMAGES]["height"])] * layout.pictures_per_row

    wrong = []
    with ThreadPoolExecutor(READERS) as pool:
        for source, true, found in zip(listed, wanted(), pool.map(size, listed), strict=True):
            if isinstance(found, tuple) and found != true:
                wrong.append(f"{source.source} is {found[0]}x{found[1]}, its row {true[0]}x{true[1]}")
    if wrong:
        raise MillError(
            _fault(corpus.address, wrong, "pictures have another size than the picture of their row")
            + "\npixels are compared with pixels: scale them first, as their method's own evaluation does"
        )


def _fault(folder: str, names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    shown = "".join(f"\n  {name}" for name in names[:SHOWN])
    more = f"\n  and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{folder}: {what} ({len(names):,}):{shown}{more}"
