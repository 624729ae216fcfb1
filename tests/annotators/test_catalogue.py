"""The catalogue of variants: each can be built, and says its networks and licences."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from controlmill.annotators.base import Annotator
from controlmill.annotators.catalogue import VARIANTS, licence_gates, load_class, parse_conditions, stored_choice
from controlmill.annotators.plan import forward_groups
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import MillError
from controlmill.schemas.tables import condition_schema


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.condition}={variant.name}")
def test_every_variant_is_built(variant: str) -> None:
    annotator_class = load_class(variant.target)
    assert issubclass(annotator_class, Annotator)
    assert annotator_class.condition == variant.condition
    if variant.pattern is None:
        assert annotator_class.variant == variant.name
        annotator = annotator_class()
        assert set(annotator.draw(np.random.default_rng(0))) <= set(annotator.columns)
        assert annotator.palette is None or len(annotator.palette) == 768
    condition_schema(CONDITIONS[variant.condition], annotator_class.columns)
    network = annotator_class.network
    if network:
        assert network.__doc__
        assert all(file.licence and re.fullmatch("[0-9a-f]{40}", file.revision) for file in network.weights)
        assert all(file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256) for file in network.weights)


def test_all_conditions_share_forwards() -> None:
    groups = forward_groups(parse_conditions("all"))
    shared = [sorted(choice.condition for choice in group.choices) for group in groups]
    assert ["hed", "scribble"] in shared
    assert ["depth", "normals"] in shared
    assert len(groups) == 8


def test_networks_have_names_of_their_own() -> None:
    networks = {load_class(variant.target).network for variant in VARIANTS} - {None}
    assert len({network.name for network in networks}) == len(networks)
    files = {file for network in networks for file in network.weights}
    assert len({file.name for file in files}) == len(files)


def test_licences_to_accept() -> None:
    assert licence_gates(parse_conditions("canny,pose,segmentation=segformer")) == {
        "openpose": ["pose=body"],
        "segformer": ["segmentation=segformer"],
    }
    assert licence_gates(parse_conditions("canny,segmentation,depth")) == {}


@pytest.mark.parametrize("params", [{"low": "1", "high": 2}, {"low": 9, "high": 1}, {"low": None}])
def test_a_table_from_elsewhere_with_settings_that_cannot_be_is_made_by_none(params: dict[str, Any]) -> None:
    assert stored_choice("canny", "canny", "fixed", {"low": 1, "high": 2}) is not None
    assert stored_choice("canny", "canny", "fixed", params) is None


def test_unknown_variant_says_what_there_is() -> None:
    with pytest.raises(MillError, match="upernet, oneformer, segformer"):
        parse_conditions("segmentation=deeplab")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("cany", "canny"),
        ("Normal", "normals"),
        ("openpose", "pose"),
        ("captions", "caption"),
        ("lineart", "cartoon=lineart"),
        ("edges:mlds", "hough=mlsd"),
        ("canny:100:200", "canny=100:200"),
        ("canny:", "canny"),
    ],
)
def test_a_name_that_is_nearly_right_is_told_with_the_right_one(word: str, meant: str) -> None:
    with pytest.raises(MillError, match=re.escape(f"; did you mean {meant}?")):
        parse_conditions(word)


def test_nothing_is_guessed_of_a_name_that_is_near_none() -> None:
    with pytest.raises(MillError, match=r"scribble, .*, caption$"):
        parse_conditions("xyzzy")
