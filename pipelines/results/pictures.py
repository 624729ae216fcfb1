"""Pictures that another method made, matched with the rows that they were made for."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterator, Sequence
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
PATTERNS = ("{name}_{j}", "group_{j}/{name}", "{name}")  # of picture j, without its ending; the last where one a row


@dataclass(frozen=True)
class Matched:
    """The pictures of all rows, in the order of results; ``unused`` are those of rows that are not evaluated."""

    sources: list[Source]
    unused: int


def match(folder: str, rows: ChosenRows, layout: Layout) -> Matched:
    """Find each row's pictures by its source without ending, in that of :data:`PATTERNS` by which most are found.

    All are called by one of them: else ``x_0`` could be picture 0 of ``x`` and the only one of ``x_0``.

    Raises:
        MillError: pictures are missing, belong to no row, are there twice, or have another size than their row.
    """
    corpus = FolderCorpus(folder)
    found: dict[str, list[Source]] = {}
    for source in corpus.list():
        found.setdefault(plain_stem(source.source), []).append(source)
    pattern = _pattern(found, rows, layout)
    kind = layout.prompts[0]
    listed: list[Source] = []
    missing: list[str] = []
    twice: list[str] = []
    taken: set[str] = set()
    for place, name, caption in rows.sources():
        for sample in range(layout.pictures_per_row):
            wanted = pattern.format(name=plain_stem(name), j=sample)
            fits = found.get(wanted, [])
            taken.add(wanted)
            if not fits:
                missing.append(wanted)
            elif len(fits) > 1:
                twice.append(" and ".join(source.source for source in fits))
            else:
                columns = columns_of(place, kind, sample)
                listed.append(as_picture_of(fits[0], caption if kind == "user" else None, columns))
    left = [source.source for name, those in found.items() if name not in taken for source in those]
    known = _names_of_all(rows.dataset, pattern, layout.pictures_per_row) if left else set[str]()
    extra = [name for name in left if plain_stem(name) not in known]
    faults = [
        _fault(folder, missing, f"of {len(rows.places):,} rows ({rows.text}) pictures are missing"),
        _fault(folder, extra, "pictures of no row of the dataset"),
        _fault(folder, twice, "pictures are there twice"),
    ]
    if any(faults):
        raise MillError(
            "\n".join(fault for fault in faults if fault)
            + f"\nNAME being a row's source without its ending, most are called {_shown(pattern)}; all must be called "
            f"so, or all {' or all '.join(_shown(other) for other in _fitting(layout) if other != pattern)}"
        )
    _check_sizes(corpus, rows, layout, listed)
    return Matched(listed, len(left))


def plain_stem(source: str) -> str:
    """A source without its ending, its letters composed: macOS names files by letters and accents apart."""
    return unicodedata.normalize("NFC", stem(source))


def _pattern(found: Container[str], rows: ChosenRows, layout: Layout) -> str:
    """That of the patterns by which most pictures are found; of equals the first."""
    names = [plain_stem(name) for _, name, _ in rows.sources()]

    def count(pattern: str) -> int:
        return sum(pattern.format(name=name, j=j) in found for name in names for j in range(layout.pictures_per_row))

    return max(_fitting(layout), key=count)


def _fitting(layout: Layout) -> Sequence[str]:
    """The patterns that tell the pictures of a row apart."""
    return PATTERNS if layout.pictures_per_row == 1 else PATTERNS[:-1]


def _shown(pattern: str) -> str:
    return pattern.format(name="NAME", j="j")


def as_picture_of(source: Source, caption: str | None, columns: str) -> Source:
    """A listed file with the prompt that it was made for; text files beside it are not looked at."""
    return source._replace(caption=caption, texts=None, columns=columns)


def _names_of_all(dataset: Dataset, pattern: str, pictures: int) -> set[str]:
    known: set[str] = set()
    for shard in range(dataset.shards):
        with dataset.parquet(IMAGES, shard) as parquet:
            for row in read_rows(parquet, ["source"]):
                known.update(pattern.format(name=plain_stem(row["source"]), j=j) for j in range(pictures))
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
