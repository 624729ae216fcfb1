"""What is listed of results: row r · n + i is picture i of the n that are made for the r-th chosen row."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import fingerprint
from controlmill.schemas.results import CEILING, OF_ROW, OF_SHARD, PROMPT_KIND, RESULT_COLUMNS, SAMPLE
from controlmill.schemas.tables import IMAGES
from controlmill.schemas.views.lookup import Place, rows_at

from ..corpora.corpus import Source
from ..corpora.listing import LARGEST_SHARD, SHARDS

STEP = 16  # pictures: full batches


@dataclass(frozen=True)
class ChosenRows:
    """Rows of a dataset that results are made for.

    Args:
        dataset: whose rows.
        places: of the rows, ascending.
        text: says for people which they are.
        others: see :func:`other_places`.
    """

    dataset: Dataset
    places: Sequence[Place]
    text: str
    others: Mapping[Place, Place] = field(default_factory=dict)

    def sources(self) -> Iterator[tuple[Place, str, str | None]]:
        """Of each row, its place, the name that its picture was listed by, and its caption."""
        captions = self.dataset.captions().table
        columns: dict[str, list[str]] = {IMAGES: ["source"]}
        columns.setdefault(captions, []).append("caption")
        for place, row in zip(self.places, rows_at(self.dataset, columns, self.places), strict=True):
            yield place, row[IMAGES]["source"], row[captions]["caption"]


def other_places(places: Sequence[Place], shapes: Sequence[tuple[int, int]]) -> dict[Place, Place]:
    """For each row another one whose map has the same size: what its pictures score against that one is chance.

    Each row is another's once. It is half of all rows of the size away, because neighbours are often alike. A row that
    is alone with its size has none.

    Args:
        places: of the rows, ascending.
        shapes: (height, width) of each.
    """
    of_shape: dict[tuple[int, int], list[Place]] = defaultdict(list)
    for place, shape in zip(places, shapes, strict=True):
        of_shape[shape].append(place)
    return {
        place: those[(number + len(those) // 2) % len(those)]
        for those in of_shape.values()
        if len(those) > 1
        for number, place in enumerate(those)
    }


@dataclass(frozen=True)
class Layout:
    """The pictures of a row: ``pictures_per_row`` of each kind of prompt, one kind after another."""

    prompts: tuple[str, ...]
    pictures_per_row: int

    @property
    def pictures(self) -> int:
        """Of all kinds."""
        return len(self.prompts) * self.pictures_per_row

    def shard_size(self, rows: int) -> int:
        """Pictures in a shard: a 16th of all in full batches, and whole rows."""
        wanted = min(LARGEST_SHARD, STEP * max(1, -(-rows * self.pictures // (SHARDS * STEP))))
        return self.pictures * max(1, wanted // self.pictures)

    def listed_with(self, rows: ChosenRows) -> dict[str, str]:
        """What the listing depends on, as its segment says it."""
        return {
            "rows": rows.text,
            "rows sha256": fingerprint([list(place) for place in rows.places]),
            "prompts": ",".join(self.prompts),
            "pictures per row": str(self.pictures_per_row),
        }

    def each(self) -> Iterator[tuple[str, int]]:
        """(prompt kind, which of its pictures), in order."""
        for kind in self.prompts:
            for sample in range(self.pictures_per_row):
                yield kind, sample


def stem(source: str) -> str:
    """A source without its ending."""
    return os.path.splitext(source)[0]


def columns_of(place: Place, kind: str, sample: int) -> str:
    """The columns that the images of results keep, as a listing has them."""
    return json.dumps({OF_SHARD: place[0], OF_ROW: place[1], SAMPLE: sample, PROMPT_KIND: kind}, sort_keys=True)


def listed_columns(source: Source) -> dict[str, Any]:
    """What :func:`columns_of` wrote.

    Raises:
        MillError: the listing is damaged.
    """
    try:
        found = json.loads(source.columns or "")
        return {name: (str if kind == "string" else int)(found[name]) for name, kind in RESULT_COLUMNS.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise MillError(f"the listing of {source.source} is damaged: it has no {error}") from error


def sample_sources(rows: ChosenRows, layout: Layout, texts: Mapping[str, str | None]) -> Iterator[Source]:
    """The pictures that are to be sampled, and behind all of them each row's own through the VAE, for the ceiling.

    The caption is the prompt.

    Args:
        rows: for which.
        layout: how many of each.
        texts: the prompt of each kind that has one for all rows; of ``user`` it is the row's caption.
    """
    for place, source, caption in rows.sources():
        for kind, sample in layout.each():
            prompt = texts.get(kind, caption or "")
            yield Source(f"{kind}/{stem(source)}_{sample}.png", caption=prompt, columns=columns_of(place, kind, sample))
    for place, source, _ in rows.sources():
        yield Source(f"{CEILING}/{stem(source)}.png", columns=columns_of(place, CEILING, 0))
