"""Sample: a ControlNet's pictures for rows of another dataset, as the ``images`` of results.

A stage like ingest's: what is listed is a picture that is to be made, for a row, with a prompt. What cannot be made (a
map that cannot be decoded) is refused and costs its own pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from controlmill.evaluation.sampling.captioner import Captioner, LoadedCaptioner
from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import row_key, sha256_bytes
from controlmill.schemas.images.codecs import decode_image, decode_map, encode_map
from controlmill.schemas.maps.transforms import control_image
from controlmill.schemas.results import CEILING, OF_ROW, OF_SHARD, PROMPT_KIND, RESULT_COLUMNS, SAMPLE
from controlmill.schemas.tables import IMAGES
from controlmill.schemas.views.lookup import Place, rows_at

from ..corpora.corpus import Source
from ..engine.faults import JobFault
from ..engine.rows import BatchStep
from ..engine.worker import this_worker
from ..results.listing import listed_columns
from ..results.sampling import Sampling
from .aligned import TOO_MANY_FAILURES
from .ingest import IngestConfig
from .listed import ListedStage

AUTO = "auto"  # the kind of prompt that is said of a picture sampled before


class ToSample(NamedTuple):
    """A picture that is to be made: what was listed, and the row's map as it is stored; for the ceiling its picture."""

    source: Source
    columns: Mapping[str, Any]
    height: int
    width: int
    stored: bytes

    @property
    def place(self) -> Place:
        """Of the row."""
        return self.columns[OF_SHARD], self.columns[OF_ROW]

    @property
    def kind(self) -> str:
        """Of the prompt; :data:`results.CEILING` of a picture that is not sampled."""
        return str(self.columns[PROMPT_KIND])


class Drawn(NamedTuple):
    """What was made: a picture, uint8 (H, W, 3), and the prompt that it was made with."""

    picture: np.ndarray
    prompt: str


@dataclass(frozen=True)
class SampleStep(BatchStep):
    """A listed picture → its row of ``images``.

    Args:
        sampling: what samples.
        condition: of the maps.
        captioner: where automatic prompts are asked for.
        default_prompt: of the picture that an automatic prompt is said of.
    """

    sampling: Sampling
    condition: Condition
    captioner: Captioner | None
    default_prompt: str

    @property
    def batch_size(self) -> int:
        """Pictures that are sampled at a time."""
        return self.sampling.place.batch_size

    def cost(self, row: ToSample) -> int:
        """The map as the ControlNet sees it, or the row's own picture, and what is made."""
        return row.width * row.height * 20

    def load(self, row: ToSample) -> tuple[ToSample, np.ndarray]:
        """With the map, float32 (3, H, W); for the ceiling with the picture, uint8 (H, W, 3).

        Raises:
            ValueError: it cannot be decoded.
        """
        if row.kind == CEILING:
            return row, decode_image(row.stored, (row.height, row.width))
        array = decode_map(self.condition.kind, row.stored, (row.height, row.width))
        return row, control_image(self.condition, array)

    def shape(self, item: tuple[ToSample, np.ndarray]) -> Hashable:
        """(height, width), and what is to be done: nothing is sampled for the ceiling, and some prompts said first."""
        row, _ = item
        return row.height, row.width, row.kind if row.kind in (AUTO, CEILING) else ""

    def forward(self, items: list[tuple[ToSample, np.ndarray]]) -> list[Drawn]:
        """Of a full batch."""
        rows = [row for row, _ in items]
        if rows[0].kind == CEILING:
            with this_worker().forward_lock:
                return [Drawn(picture, "") for picture in self.sampling.round_trip([given for _, given in items])]
        controls = np.stack([control for _, control in items])
        prompts = [row.source.caption or "" for row in rows]
        places, samples = [row.place for row in rows], [row.columns[SAMPLE] for row in rows]
        with this_worker().forward_lock:
            if rows[0].kind == AUTO:
                assert self.captioner is not None
                before = self.sampling.sample([self.default_prompt] * len(rows), controls, places, samples)
                prompts = self._captioner(self.captioner).captions(before)
            pictures = self.sampling.sample(prompts, controls, places, samples)
        return [Drawn(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]

    def _captioner(self, captioner: Captioner) -> LoadedCaptioner:
        worker = this_worker()
        return worker.once(
            ("captioner", captioner), lambda: captioner.load(worker.prepare(captioner.place)), stays=True
        )

    def finish(self, row: ToSample, item: Any, output: Drawn) -> dict[str, Any]:
        """The row of ``images``."""
        data = encode_map("rgb", output.picture, (row.height, row.width))
        digest = sha256_bytes(data)
        key = row_key(row.source.source, digest)
        return {
            "key": key,
            "source": row.source.source,
            "image": {"bytes": data, "path": f"{key}.png"},
            "width": row.width,
            "height": row.height,
            "original_width": row.width,
            "original_height": row.height,
            "crop_x": 0,
            "crop_y": 0,
            "crop_w": row.width,
            "crop_h": row.height,
            "sha256": digest,
            "several": False,
            "caption": output.prompt,
            "caption_error": None,
            **row.columns,
        }


@dataclass(frozen=True)
class Sample(ListedStage):
    """The stage.

    Args:
        source: address of the dataset whose maps the pictures follow.
        sampling: what samples them.
        condition: of the maps.
        config: of the images of the results.
        samples: what the pictures are, as provenance says it, without what samples them.
        default_prompt, captioner: see :class:`SampleStep`.
    """

    source: str
    sampling: Sampling
    condition: Condition
    config: IngestConfig
    samples: Mapping[str, Any]
    default_prompt: str
    captioner: Captioner | None = None

    name = "sample"

    @property
    def kept(self) -> Mapping[str, str]:
        """Which row, picture and prompt it is."""
        return RESULT_COLUMNS

    def provenance(self) -> dict[str, Any]:
        """What all images of the results share."""
        sampler = self.sampling.described()
        if self.captioner:
            sampler["captioner"] = self.captioner.described()
        ingest = self.config.provenance()
        return {"table": IMAGES, "kind": IMAGES, "ingest": ingest, "samples": {**self.samples, "sampler": sampler}}

    def devices(self) -> list[str]:
        """Where the base is."""
        return [self.sampling.place.device]

    def load(self, tables: Iterable[str], here: bool) -> None:
        """The base and the ControlNets."""
        self.sampling.prepare()

    def step(self) -> SampleStep:
        """What is loaded is loaded before the first row."""
        self.sampling.prepare()
        return SampleStep(self.sampling, self.condition, self.captioner, self.default_prompt)

    def check_rejects(self, sources: Sequence[Source], rejects: Sequence[Mapping[str, Any]]) -> None:
        """Where every picture of a shard failed, it is no fault of the maps."""
        faults = [reject for reject in rejects if reject["reason"] in ("failed", "killed_worker")]
        if len(sources) >= TOO_MANY_FAILURES and len(faults) == len(sources):
            raise JobFault(f"none of the shard's {len(sources)} pictures could be sampled: {faults[-1]['error']}")

    def rows(self, sources: Sequence[Source]) -> Iterator[ToSample]:
        """Each with the map of its row, or for the ceiling with its picture; a row group is read at a time."""
        listed = [(source, listed_columns(source)) for source in sources]
        for is_ceiling, group in itertools.groupby(listed, key=lambda one: one[1][PROMPT_KIND] == CEILING):
            part = list(group)
            places = [(columns[OF_SHARD], columns[OF_ROW]) for _, columns in part]
            table, column = (IMAGES, "image") if is_ceiling else (self.condition.table, "map")
            wanted = {IMAGES: ["width", "height"]}
            wanted.setdefault(table, []).append(column)
            for (source, columns), row in zip(part, rows_at(Dataset.open(self.source), wanted, places), strict=True):
                data = (row[table][column] or {}).get("bytes") or b""
                yield ToSample(source, columns, row[IMAGES]["height"], row[IMAGES]["width"], data)
