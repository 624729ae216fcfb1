"""What is done for a picture that is to be sampled; networks are stood in for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from controlmill.annotators.catalogue import parse_condition
from controlmill.annotators.runtime.placement import Placement
from controlmill.evaluation.sampling.captioner import Captioner, LoadedCaptioner
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.pipelines.corpora.corpus import Source
from controlmill.pipelines.engine.faults import Failure, JobFault, OutOfMemory
from controlmill.pipelines.engine.rows import run_rows
from controlmill.pipelines.engine.shards import advice_on
from controlmill.pipelines.results.listing import ChosenRows, Layout, columns_of, listed_columns
from controlmill.pipelines.results.makers import SampledPictures
from controlmill.pipelines.results.sampling import Sampling
from controlmill.pipelines.stages.sample import SampleStep, ToSample
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import decode_image, encode_map
from tests.helpers import places, rows

MAP = np.zeros((16, 24), np.uint8)
CANNY = CONDITIONS["canny"]


@dataclass(frozen=True)
class Paints(Sampling):
    """Paints the length of the prompt, the number of the picture and the map's mean; has memory for some prompts."""

    def sample(
        self,
        prompts: Sequence[str],
        controls: np.ndarray,
        places: Sequence[tuple[int, int]],
        samples: Sequence[int],
    ) -> list[np.ndarray]:
        """A picture of one colour each."""
        assert len(prompts) == len(controls) == len(places) == len(samples) == self.place.batch_size
        if "too large" in prompts:
            raise MemoryError("no memory")
        return [
            np.full((*control.shape[1:], 3), (len(prompt), sample, round(float(control.mean()) * 255)), np.uint8)
            for prompt, control, sample in zip(prompts, controls, samples, strict=True)
        ]

    def round_trip(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The pictures with a mark."""
        assert len(pictures) == self.place.batch_size
        return [picture ^ 1 for picture in pictures]


class Says(Captioner):
    """Says of which colour a picture is."""

    def load(self, place: Placement) -> LoadedCaptioner:
        """Nothing is loaded."""
        return SaysColours.__new__(SaysColours)


class SaysColours(LoadedCaptioner):
    """See :class:`Says`."""

    def captions(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """The first channel, that often."""
        return ["x" * (int(picture[0, 0, 0]) + 1) for picture in pictures]


PAINTS = Paints("tiny", "tiny", (), SamplingSettings(), Placement(batch_size=4))


def to_sample(prompt: str | None, kind: str = "user", sample: int = 0, data: bytes = b"") -> ToSample:
    source = Source(f"{kind}/a_{sample}.png", caption=prompt, columns=columns_of((2, 5), kind, sample))
    return ToSample(source, listed_columns(source), *MAP.shape, data or encode_map("binary", MAP))


def test_a_map_that_cannot_be_decoded_costs_its_own_pictures() -> None:
    step = SampleStep(PAINTS, CANNY, None, "")
    listed = [to_sample("a" * n, sample=n, data=b"" if n != 2 else b"no map") for n in range(5)]
    outcomes = list(run_rows(step, listed, 2, lambda: None))
    assert isinstance(outcomes[2], Failure)
    for n in (0, 1, 3, 4):
        assert decode_image(outcomes[n]["image"]["bytes"])[0, 0].tolist() == [n, n, 0]
        assert outcomes[n]["of_row"] == 5
        assert outcomes[n]["caption"] == "a" * n


def test_a_shard_of_which_nothing_could_be_sampled_stops_the_job(dataset: Path) -> None:
    stage = SampledPictures("", PAINTS, CANNY, {}, "").stage(Dataset.open(dataset), {})
    sources = [Source(str(n)) for n in range(8)]
    rejects = [{"source": source.source, "reason": "failed", "error": "no such layer"} for source in sources]
    with pytest.raises(JobFault, match="none of the shard's 8 pictures could be sampled: no such layer"):
        stage.check_rejects(sources, rejects)
    stage.check_rejects(sources, rejects[1:])


def test_memory_that_runs_out_stops_the_job_and_names_a_smaller_batch() -> None:
    with pytest.raises(OutOfMemory) as caught:
        list(run_rows(SampleStep(PAINTS, CANNY, None, ""), [to_sample("too large")], 1, lambda: None))
    assert "choose a smaller --batch-size" in advice_on(caught.value, networks=True)


def test_an_automatic_prompt_is_said_of_the_picture_that_the_default_prompt_gave() -> None:
    captioner = Says(parse_condition("caption"), (), Placement())
    step = SampleStep(PAINTS, CANNY, captioner, "default")
    listed = [to_sample(None, "auto"), to_sample("two"), to_sample(None, "auto", 1)]
    outcomes = list(run_rows(step, listed, 1, lambda: None))
    assert [outcome["caption"] for outcome in outcomes] == ["x" * 8, "two", "x" * 8]
    assert [decode_image(row["image"]["bytes"])[0, 0].tolist() for row in outcomes] == [[8, 0, 0], [3, 0, 0], [8, 1, 0]]


def test_a_ceiling_is_the_rows_own_picture_through_the_vae_and_costs_itself_alone() -> None:
    given = np.random.default_rng(0).integers(0, 256, (*MAP.shape, 3), np.uint8)
    listed = [to_sample("a"), to_sample(None, "ceiling", data=encode_map("rgb", given)), to_sample("b", sample=1)]
    listed.append(to_sample(None, "ceiling", data=b"no picture"))
    outcomes = list(run_rows(SampleStep(PAINTS, CANNY, None, ""), listed, 2, lambda: None))
    assert (decode_image(outcomes[1]["image"]["bytes"]) == given ^ 1).all()
    assert [outcome["caption"] for outcome in outcomes[:3]] == ["a", "", "b"]
    assert isinstance(outcomes[3], Failure)


def test_each_picture_has_the_map_of_its_row(dataset: Path) -> None:
    opened, at = Dataset.open(dataset), places(dataset)
    chosen = ChosenRows(opened, [at[1], at[6]], "two")
    maker = SampledPictures("", PAINTS, opened.condition("canny"), {"none": ""}, "")
    stage = maker.stage(opened, {})
    listed = list(stage.rows(list(maker.listing(chosen, Layout(("none",), 2)))))
    stored, images = rows(dataset, "canny"), rows(dataset, "images")
    maps = [stored[n]["map"]["bytes"] for n in (1, 1, 6, 6)]
    assert [row.stored for row in listed] == [*maps, *(images[n]["image"]["bytes"] for n in (1, 6))]
    assert [row.place for row in listed] == [at[1], at[1], at[6], at[6], at[1], at[6]]
