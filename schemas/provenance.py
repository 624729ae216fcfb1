"""What a dataset's JSON and footers hold: how tables were made, of which files they are, what was refused.

Frozen dataclasses, read by :mod:`files.documents`: a field without a default must be there; one that is not named here
is an error, so that what is read can be written again without a loss. ``None`` stands for a field that is left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from .files.documents import FORBID
from .kinds import KINDS, Kind

MAX_DEPTH = 32  # of values whose names are free
MAX_SHARD_ROWS = 100_000
MAX_NUMBER = 2**63


def _check_free(value: Any) -> Any:
    level = [value]
    for _ in range(MAX_DEPTH):
        for item in level:
            if isinstance(item, int | float) and not abs(item) <= MAX_NUMBER:  # NaN is not either
                raise ValueError("a number is too large")
        parents = [item for item in level if isinstance(item, dict | list)]
        level = [item for parent in parents for item in (parent.values() if isinstance(parent, dict) else parent)]
        if not level:
            return value
    raise ValueError("nested too deep")


Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
Rows = Annotated[int, Field(ge=0, le=MAX_SHARD_ROWS)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Word = Annotated[str, Field(pattern="^[A-Za-z0-9_.:=-]{1,64}$")]  # what cards quote
Colour = Annotated[str, Field(pattern="^[0-9a-f]{6}$")]
Pixel = Annotated[int, Field(ge=0, le=65535)]
Free = Annotated[dict[str, Any], AfterValidator(_check_free)]


@dataclass(frozen=True)
class WeightsRecord:
    """A file of weights that a network was loaded from."""

    __pydantic_config__ = FORBID

    name: str
    origin: str
    sha256: Sha256
    licence: str


@dataclass(frozen=True)
class NetworkRecord:
    """The network that an annotator used."""

    __pydantic_config__ = FORBID

    name: str
    version: Count
    weights: tuple[WeightsRecord, ...]


@dataclass(frozen=True)
class PlacementRecord:
    """Where a network ran; see :class:`annotators.base.Placement`."""

    __pydantic_config__ = FORBID

    device: str
    dtype: Literal["fp32", "bf16", "fp16"]
    batch_size: Annotated[int, Field(ge=0, le=65536)]
    threads: Count
    compile: bool | None = None


@dataclass(frozen=True)
class DepthRecord:
    """What the values of a user's depth maps mean; see :class:`maps.meaning.Reading`."""

    __pydantic_config__ = FORBID

    meaning: Literal["metric", "inverse"]
    scale: Finite
    invalid: tuple[Finite, ...]


@dataclass(frozen=True)
class LabelSetRecord:
    """The label set of a user's maps; see :class:`maps.labels.LabelSet`."""

    __pydantic_config__ = FORBID

    name: str
    sha256: Sha256
    classes: tuple[str, ...]
    ids: tuple[tuple[Pixel, ...], ...]
    void: tuple[Pixel, ...]
    others_void: bool
    colours: tuple[Colour, ...]
    void_colours: tuple[Colour, ...]
    encoding: Literal["id", "ade20k"]


@dataclass(frozen=True)
class ReadingRecord:
    """How a user's maps were read; see :class:`maps.meaning.Reading`."""

    __pydantic_config__ = FORBID

    invert: bool | None = None
    white_from: Finite | None = None
    line_share: Finite | None = None
    depth: DepthRecord | None = None
    label_set: LabelSetRecord | None = None


@dataclass(frozen=True)
class AnnotatorRecord:
    """What made a condition's table: an annotator, or (``variant`` is ``imported`` or ``files``) a user's files."""

    __pydantic_config__ = FORBID

    condition: Word
    variant: Word
    version: Count
    params: Free | None = None
    packages: dict[str, str] | None = None
    x_channel: Annotated[int, Field(ge=0, le=2)] | None = None
    reading: ReadingRecord | None = None
    network: NetworkRecord | None = None
    placement: PlacementRecord | None = None

    @property
    def is_imported(self) -> bool:
        """Whether the maps are a user's."""
        return self.variant == "imported"


@dataclass(frozen=True)
class EncoderRecord:
    """What filled a cache: a base's encoder, by the sha256 of its weights. The sizes are those that it has."""

    __pydantic_config__ = FORBID

    version: Count
    sha256: Sha256
    stored: Literal["fp32", "fp16"]
    packages: dict[str, str]
    placement: PlacementRecord
    channels: Count | None = None
    factor: Count | None = None
    width: Count | None = None
    tokens: Count | None = None


@dataclass(frozen=True)
class CaptionsRecord:
    """Which captions were encoded: the table that has them, and a digest where the images' says nothing of them."""

    __pydantic_config__ = FORBID

    table: str
    sha256: Sha256 | None = None


@dataclass(frozen=True)
class LimitsRecord:
    """What pictures were refused for; see :class:`images.formats.Limits`."""

    __pydantic_config__ = FORBID

    max_pixels: Positive
    max_bytes: Positive
    min_side: Count


@dataclass(frozen=True)
class IngestRecord:
    """What decided the pixels; see :class:`pipelines.stages.ingest.IngestConfig`."""

    __pydantic_config__ = FORBID

    version: Count
    resolution: Positive
    fit: Literal["crop", "bucket", "none"]
    limits: LimitsRecord
    white: Annotated[int, Field(ge=1, le=65535)] | None


NEEDED: dict[str, str] = {  # kind of a table → what says how it was made
    "images": "ingest",
    **dict.fromkeys(("latents", "embeddings"), "encoder"),
    **dict.fromkeys((*KINDS, "text"), "annotator"),
}


@dataclass(frozen=True)
class Provenance:
    """How a table was made. ``shard`` and ``images_sha256`` are a file's own; what else is here its table shares.

    ``kind`` is the kind of the maps; of a table without maps it is its name.

    Raises:
        ValueError: it does not say what made a table of that kind.
    """

    __pydantic_config__ = FORBID

    table: str
    kind: Literal["sources", "images", "rejected", "latents", "embeddings", Kind]
    ingest: IngestRecord | None = None
    listing: Free | None = None
    packages: dict[str, str] | None = None
    annotator: AnnotatorRecord | None = None
    encoder: EncoderRecord | None = None
    mirrored: bool | None = None
    captions: CaptionsRecord | None = None
    shard: Count | None = None
    images_sha256: Sha256 | None = None

    def __post_init__(self) -> None:
        name = NEEDED.get(self.kind)
        if name and getattr(self, name) is None:
            raise ValueError(f"no {name}")

    @property
    def is_condition(self) -> bool:
        """Whether the table holds maps or captions."""
        return NEEDED.get(self.kind) == "annotator"

    @property
    def is_aligned(self) -> bool:
        """Whether the table was made from the images."""
        return NEEDED.get(self.kind) in ("annotator", "encoder")

    @property
    def shared(self) -> Provenance:
        """What all files of the table share."""
        return replace(self, shard=None, images_sha256=None)

    @property
    def map_kind(self) -> Kind:
        """The kind of a condition's table."""
        assert self.annotator is not None
        return cast(Kind, self.kind)

    @property
    def made_by(self) -> AnnotatorRecord:
        """What made a condition's table."""
        assert self.annotator is not None
        return self.annotator

    @property
    def encoded_by(self) -> EncoderRecord:
        """What filled a cache."""
        assert self.encoder is not None
        return self.encoder


@dataclass(frozen=True)
class RejectRecord:
    """A file that ingest refused."""

    __pydantic_config__ = FORBID

    source: str
    reason: str
    error: str


@dataclass(frozen=True)
class CaptionCounts:
    """How many pictures of a file have a caption, and how many one that cannot be read."""

    __pydantic_config__ = FORBID

    given: Count
    unread: Count


@dataclass(frozen=True)
class Summary:
    """What a file's footer says of its rows: refused by reason, empty maps; of images also what was refused.

    ``several`` are files of several pictures.
    """

    __pydantic_config__ = FORBID

    reasons: dict[str, Count] = field(default_factory=dict)
    empty: Count = 0
    rejects: tuple[RejectRecord, ...] = ()
    captions: CaptionCounts | None = None
    several: Count = 0


@dataclass(frozen=True)
class Entry:
    """A file of a table, in the table's index; see :class:`Summary`."""

    __pydantic_config__ = FORBID

    rows: Rows
    row_groups: Rows
    bytes: Count
    sha256: Sha256
    images_sha256: Sha256 | None = None
    reasons: dict[str, Count] = field(default_factory=dict)
    captions: CaptionCounts | None = None
    several: Count = 0
    empty: Count = 0


@dataclass(frozen=True)
class Index:
    """``_tables/NAME.json``: how a complete table was made, and each of its files.

    Raises:
        ValueError: a file does not say which images it was made from.
    """

    __pydantic_config__ = FORBID

    table: str
    provenance: Provenance
    shards: tuple[Entry, ...]

    def __post_init__(self) -> None:
        for shard, entry in enumerate(self.shards if self.provenance.is_aligned else ()):
            if entry.images_sha256 is None:
                raise ValueError(f"no images_sha256 in shards.{shard}")

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(entry.rows for entry in self.shards)

    @property
    def captions(self) -> CaptionCounts:
        """Of all files."""
        counts = [entry.captions for entry in self.shards if entry.captions]
        return CaptionCounts(sum(count.given for count in counts), sum(count.unread for count in counts))

    @property
    def reasons(self) -> Counter[str]:
        """Rows refused, by reason."""
        total: Counter[str] = Counter()
        for entry in self.shards:
            total.update(entry.reasons)
        return total

    @property
    def digests(self) -> list[str]:
        """sha256 of each file."""
        return [entry.sha256 for entry in self.shards]


@with_config(ConfigDict(extra="forbid"))
class FileCounts(TypedDict):
    """How many files, and how many of the commonest kinds."""

    files: Count
    most: dict[str, Count]


@with_config(ConfigDict(extra="forbid"))
class PassedOverRecord(TypedDict, total=False):
    """What a listing met beside the pictures that it lists; see :class:`pipelines.corpora.corpus.PassedOver`."""

    texts: Count
    metadata: Count
    named: Count
    absent: Count
    maps: Count
    again: Count
    faults: Count
    other: FileCounts
    skipped: FileCounts
    left_out: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Segment:
    """What one listing added to a dataset; ``corpus`` is the kind of corpus that was listed, such as ``folder``."""

    __pydantic_config__ = FORBID

    first_shard: Count
    shards: Count
    rows: Count
    corpus: Word
    passed_over: PassedOverRecord | None = None


@dataclass(frozen=True)
class DatasetRecord:
    """``dataset.json``: what never changes, and the segments. ``shard_size`` is 0 until the corpus is listed.

    Raises:
        ValueError: segments that contradict themselves.
    """

    __pydantic_config__ = FORBID

    version: Count
    ingest: IngestRecord
    shard_size: Rows
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if self.segments and not self.shard_size:
            raise ValueError("shard_size is 0, not at least 1")
        shards = 0
        for number, segment in enumerate(self.segments):
            wanted = -(-segment.rows // self.shard_size)
            if segment.first_shard != shards or segment.shards != wanted:
                raise ValueError(
                    f"segments.{number} has {segment.shards} shards from {segment.first_shard} on; "
                    f"its {segment.rows} rows make {wanted} from {shards} on"
                )
            shards += wanted

    @property
    def rows(self) -> int:
        """What was listed."""
        return sum(segment.rows for segment in self.segments)


@dataclass(frozen=True)
class LocalRecord:
    """``_local.json``: the address of the corpus that each segment was listed from, as this machine has it."""

    __pydantic_config__ = FORBID

    corpora: tuple[str, ...]


@dataclass(frozen=True)
class Aim:
    """``_redo/_aims/NAME.json``: what a table that is made anew is to become, and how far it is."""

    __pydantic_config__ = FORBID

    aim: Sha256
    state: Literal["making", "switching", "done"]
