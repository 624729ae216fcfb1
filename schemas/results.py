"""``results.json``: what an evaluation found, beside the tables of its dataset (pictures, judge's maps, ``scores``).

Frozen dataclasses, read by :mod:`files.documents` under the rules of :mod:`provenance`. A results dataset's corpus is
its source dataset, whose address is in ``_local.json`` alone (:attr:`dataset.Dataset.corpora`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from .bounds import Count, Finite, Sha256, Word
from .errors import MillError
from .files.documents import FORBID
from .files.storage import Storage

RESULTS = "results.json"
OF_SHARD, OF_ROW, SAMPLE, PROMPT_KIND = "of_shard", "of_row", "sample", "prompt_kind"  # columns of a results' images
RESULT_COLUMNS = {OF_SHARD: "int32", OF_ROW: "int32", SAMPLE: "int32", PROMPT_KIND: "string"}  # with Arrow types
CEILING = "ceiling"  # in the place of a prompt kind: the row's own picture through the base's VAE
SAMPLES, PICTURES = "samples", "pictures"  # what results are listed from: made here, or given
RESULTS_VERSION = 1
ProtocolName = Annotated[str, Field(pattern="^[A-Za-z0-9_.+/=-]{1,64}$")]  # controlnet++/canny


@dataclass(frozen=True)
class PublishedRecord:
    """A published value that a measure is printed beside.

    Args:
        method: whose value it is, such as ``ControlNet``.
        value: in the measure's own unit.
        source: paper, table.
        deviation: what the source gives after ±.
        note: why the value is not comparable, where it is not.
    """

    __pydantic_config__ = FORBID

    method: str
    value: Finite
    source: str
    deviation: Finite | None = None
    note: str = ""


@dataclass(frozen=True)
class ValueRecord:
    """A measure over the pictures of one prompt kind.

    Args:
        prompt_kind: of the pictures.
        rows: source rows that count.
        value: None where nothing can be said.
        low, high: ends of its 95 % bootstrap interval over source rows; None where there is none.
        note: of this value alone.
        chance: what the same pictures have against other rows' maps.
        ceiling: what the rows' own pictures have once they went through the VAE; None without a base.
        gain_low, gain_high: ends of the 95 % interval of how much better the value is than chance, paired by row.
    """

    __pydantic_config__ = FORBID

    prompt_kind: Word
    rows: Count
    value: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    note: str = ""
    chance: Finite | None = None
    ceiling: Finite | None = None
    gain_low: Finite | None = None
    gain_high: Finite | None = None


@dataclass(frozen=True)
class MeasureRecord:
    """A measure: its values, and what was published of it.

    Args:
        measure: its name.
        lower_is_better: whether a smaller value is a better one.
        values: one for each prompt kind.
        column: where single pictures' values are; None: they have none (FID), or none that is kept.
        table: which the column is of; None: ``scores``.
        published: what it is printed beside.
        note: what is to be known of it, such as that judge and annotator are the same model.
    """

    __pydantic_config__ = FORBID

    measure: Word
    lower_is_better: bool
    values: tuple[ValueRecord, ...]
    column: Word | None = None
    published: tuple[PublishedRecord, ...] = ()
    note: str = ""
    table: Word | None = None


@dataclass(frozen=True)
class ResultsRecord:
    """``results.json``.

    Args:
        version: :data:`RESULTS_VERSION`.
        method: what made the pictures, for people: the ControlNet's address, or the folder of another method.
        protocol: its name.
        source_sha256: fingerprint of the source dataset's images.
        control: the source's table of maps that was given.
        truth: the source's table of maps that the judge's are compared with.
        judged: the table of this dataset with the judge's maps; None: there is no judge.
        pictures_per_row: of each prompt kind.
        prompt_kinds: in the order in which they are shown.
        measures: in the order in which they are shown.
    """

    __pydantic_config__ = FORBID

    version: Count
    method: str
    protocol: ProtocolName
    source_sha256: Sha256
    control: Word
    truth: Word
    judged: Word | None
    pictures_per_row: Count
    prompt_kinds: tuple[Word, ...]
    measures: tuple[MeasureRecord, ...]


def read_results(storage: Storage) -> ResultsRecord:
    """What an evaluation found.

    Raises:
        MillError: there is no ``results.json``, or it is damaged.
    """
    record = storage.read_json(RESULTS, ResultsRecord)
    if record is None:
        raise MillError(f"{storage.address} has no {RESULTS}: controlmill evaluate makes it")
    return record
