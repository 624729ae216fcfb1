"""Which network fills which table of features, and which tables a measure of pictures takes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlmill.annotators.base import Network
from controlmill.annotators.runtime.weights import Found, WeightsFile, find
from controlmill.schemas.tables import CLIP, CLIP_336, CLIP_TEXT, INCEPTION, LPIPS, OF_ROWS, PICTURE_SCORES

from .aesthetic import AESTHETIC

NETWORKS = {
    INCEPTION: "inception:Inception",
    CLIP: "clip:CLIPPictures",
    CLIP_336: "clip:CLIP336Pictures",
    CLIP_TEXT: "clip:CLIPTexts",
    LPIPS: "lpips:LPIPS",
}


@dataclass(frozen=True)
class PictureMeasure:
    """A measure of pictures that looks at no map.

    Args:
        name: in protocols and results.
        tables: what it takes of the results.
        of_source: what it takes of the dataset whose rows the pictures were made for.
        stored: table and column of results that have each picture's value; None: it is of a set of pictures.
        lower_is_better: whether a smaller value is a better one.
        files: weights that it takes beside those of the tables' networks.
        note: what is to be known of a value.
    """

    name: str
    tables: tuple[str, ...]
    of_source: tuple[str, ...] = ()
    stored: tuple[str, str] | None = None
    lower_is_better: bool = False
    files: tuple[WeightsFile, ...] = ()
    note: str = ""

    @property
    def weights(self) -> tuple[WeightsFile, ...]:
        """Every file that it needs, once."""
        networks = [network_of(table) for table in (*self.tables, *self.of_source)]
        return tuple(dict.fromkeys([*(file for network in networks for file in network.weights), *self.files]))


REFERENCE = "against the pictures of the rows that were evaluated"
PICTURE_MEASURES = {
    measure.name: measure
    for measure in (
        PictureMeasure("fid", (INCEPTION,), (INCEPTION,), lower_is_better=True, note=REFERENCE),
        PictureMeasure("kid", (INCEPTION,), (INCEPTION,), lower_is_better=True, note=REFERENCE),
        PictureMeasure("cmmd", (CLIP_336,), (CLIP_336,), lower_is_better=True, note=REFERENCE),
        PictureMeasure(
            *("clip_score", (CLIP,), (CLIP_TEXT,), (PICTURE_SCORES, "clip_score")),
            note="with the captions of the rows, whatever the prompt",
        ),
        PictureMeasure("clip_aesthetic", (CLIP,), (), (PICTURE_SCORES, "clip_aesthetic"), files=(AESTHETIC,)),
        PictureMeasure(
            *("lpips", (LPIPS,), (), (LPIPS, "distance")),
            note="between the pictures of a row and prompt kind: how diverse they are",
        ),
    )
}


def network_of(table: str) -> type[Network]:
    """The network that fills a table, of a dataset or of the rows that results were made for."""
    module, _, name = NETWORKS[OF_ROWS.get(table, table)].partition(":")
    network: type[Network] = getattr(importlib.import_module(f".{module}", __package__), name)
    return network


def find_feature_weights(
    measures: Iterable[str], folder: str | None
) -> tuple[dict[str, Found], list[tuple[str, WeightsFile]]]:
    """(file → what was found; missing files, each with the measures that need it).

    Raises:
        MillError: a file is there but is not what it should be.
    """
    users: dict[WeightsFile, list[str]] = {}
    for name in measures:
        for file in PICTURE_MEASURES[name].weights:
            users.setdefault(file, []).append(name)
    found, missing = find(users, folder)
    needed = {file.name: names for file, names in users.items()}
    return {one.name: one for one in found}, [(", ".join(needed[file.name]), file) for file in missing]


def without_weights(measures: Sequence[str], found: Iterable[str]) -> list[str]:
    """Those measures that lack a file."""
    there = set(found)
    return [name for name in measures if any(file.name not in there for file in PICTURE_MEASURES[name].weights)]
