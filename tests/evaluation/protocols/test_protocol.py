"""Protocols: the files that come along say what their sources say; a file of a user's own is read with care."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlmill.annotators.catalogue import parse_condition
from controlmill.evaluation.features.catalogue import PICTURE_MEASURES
from controlmill.evaluation.protocols.protocol import (
    NOT_COMPARABLE,
    Protocol,
    fitting,
    protocol_names,
    read_protocol,
)
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import MillError

NAMES = protocol_names()
PUBLISHED = {  # of ControlNet, as the papers print them
    ("paper-table2", "miou"): 0.35,
    ("paper-table3", "fid"): 15.27,
    ("paper-table3", "clip_score"): 26.0,  # printed as .26
    ("paper-table3", "clip_aesthetic"): 6.31,
    ("controlnet++/canny", "f1_of_row"): 0.3465,
    ("controlnet++/hed", "ms_ssim"): 0.7621,
    ("controlnet++/depth", "rmse_by_maximum"): 35.90,
    ("controlnet++/lineart", "ms_ssim_uint8"): 0.7054,
    ("controlnet++/segmentation", "miou_of_set"): 0.3255,
}


@pytest.mark.parametrize(("name", "measure"), PUBLISHED)
def test_published_values_are_those_of_the_source(name: str, measure: str) -> None:
    values = {value.method: value for value in read_protocol(name).published[measure]}
    assert values["ControlNet"].value == PUBLISHED[name, measure]
    assert all(value.source.startswith("arXiv 2") for value in values.values())


@pytest.mark.parametrize("name", NAMES)
def test_published_values_are_in_the_unit_that_is_measured_in(name: str) -> None:
    shares = ("miou", "miou_of_set", "f1_of_row", "ms_ssim", "ms_ssim_uint8")  # the others go far beyond 1
    for measure, values in read_protocol(name).published.items():
        assert all((value.value <= 1) == (measure in shares) for value in values), measure


def test_table_2_is_whole() -> None:
    rows = {value.method: (value.value, value.deviation) for value in read_protocol("paper-table2").published["miou"]}
    assert rows == {
        "true pictures": (0.58, 0.10),
        "VQGAN": (0.21, 0.15),
        "LDM": (0.31, 0.09),
        "PITI": (0.26, 0.16),
        "ControlNet-lite": (0.32, 0.12),
        "ControlNet": (0.35, 0.14),
    }


def test_controlnet_plus_plus_samples_as_its_scripts_do() -> None:
    assert sum(name.startswith("controlnet++/") for name in NAMES) == 5
    for name in NAMES:
        if name.startswith("controlnet++/"):
            protocol = read_protocol(name)
            sampling = protocol.sampling
            assert (sampling.sampler, sampling.steps, sampling.guidance_scale, sampling.seed) == ("unipc", 20, 7.5, 42)
            assert sampling.negative_prompt == "worst quality, low quality"
            assert (protocol.pictures_per_row, protocol.size, protocol.fid_of_groups) == (4, 512, True)
            assert (protocol.self_test is None) == bool(protocol.not_comparable)
            assert protocol.self_test is None or protocol.self_test.controlnet.startswith("lllyasviel/control_v11")


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_fits_its_condition_and_no_other(name: str) -> None:
    protocol = read_protocol(name)
    assert protocol.name == name
    for condition in CONDITIONS.values():
        if protocol.condition in ("", condition.name):
            fitting(protocol, condition)
        else:
            with pytest.raises(MillError, match=f"is for {protocol.condition}, not for {condition.name}"):
                fitting(protocol, condition)


@pytest.mark.parametrize("name", NAMES)
def test_a_judge_that_is_not_the_published_one_is_said_beside_the_value(name: str) -> None:
    protocol = read_protocol(name)
    published_judges = {
        "controlnet++/canny": "canny=kornia",
        "controlnet++/depth": "depth=dpt-large",
        "controlnet++/hed": "hed=soft",
        "controlnet++/lineart": "cartoon=lineart",
    }
    for measure, values in protocol.published.items():
        for value in values:
            comparable = name in published_judges and protocol.judge == published_judges[name]
            assert value.note == "" if comparable else value.note.startswith(NOT_COMPARABLE), measure


def test_what_a_source_does_not_say_is_said_to_be_our_choice() -> None:
    for name in ("controlmill", "paper-table2", "paper-table3"):
        assert read_protocol(name).choices
    for name in NAMES:
        assert read_protocol(name).choices or read_protocol(name).quirks


def test_controlmills_own_measures_all_that_compare_a_conditions_maps() -> None:
    protocol = read_protocol("controlmill")
    assert [measure.name for measure in fitting(protocol, CONDITIONS["canny"])] == ["f1_within", "f1"]
    assert fitting(protocol, CONDITIONS["caption"]) == ()
    assert set(protocol.measures_of_pictures()) <= set(PICTURE_MEASURES)


GOOD = """
title = "mine"
source = "nowhere"
condition = "depth"
measures = ["abs_rel", "fid"]
judge = "depth=controlnet"
[sampling]
steps = 5
[published]
abs_rel = [{ method = "mine", value = 0.1 }]
"""
SELF_TEST = """
[self_test]
controlnet = "a"
base = "b"
measure = "abs_rel"
method = "mine"
"""


def own(tmp_path: Path, text: str) -> Protocol:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return read_protocol(str(file))


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    protocol = own(tmp_path, GOOD)
    assert protocol.name == "mine"
    assert protocol.sampling.steps == 5
    assert parse_condition(protocol.judge).variant == "controlnet"
    assert protocol.published["abs_rel"][0].source == "nowhere"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 5", "step = 5"), r"\[sampling\] has no step; there are sampler"),
        (("steps = 5", 'steps = "5"'), "sampling.steps"),
        (("steps = 5", "steps = 0"), "steps 0: must be 1 or more"),
        (("[sampling]", "[sampling"), "mine.toml"),
        (("[sampling]\nsteps = 5", "sampling = 5"), "are tables"),
        (("condition = ", "conditions = "), "conditions is not known"),
        (('"abs_rel", "fid"', '"abs_ref"'), "no measure is called abs_ref; there are maps, fid"),
        (('"abs_rel", "fid"', '"miou"'), "miou does not compare maps of depth"),
        (('["abs_rel", "fid"]', "[]"), "at least one"),
        (('"depth"', '"deep"'), "no condition is called deep"),
        (("depth=controlnet", "depth=mine"), "depth has no variant"),
        (("value = 0.1", "value = nan"), "published"),
        (("value = 0.1", "value = 2020-01-01"), "mine.toml"),
        (("abs_rel = [{", "abs_rel = { a = [{"), "mine.toml"),
        (('source = "nowhere"\n', ""), "no source"),
    ],
)
def test_a_file_that_is_no_protocol(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(MillError, match=message):
        own(tmp_path, GOOD.replace(*change))


def test_a_self_test_needs_a_published_value_that_is_comparable(tmp_path: Path) -> None:
    good = GOOD.replace("[published]", f"{SELF_TEST}[published]")
    assert own(tmp_path, good).self_test is not None
    with pytest.raises(MillError, match="abs_rel is not comparable"):
        own(tmp_path, good.replace("[published]", '[not_comparable]\nabs_rel = "so"\n[published]'))
    with pytest.raises(MillError, match="mine has no published abs_rel"):
        own(tmp_path, good.replace('{ method = "mine"', '{ method = "yours"'))


def test_a_protocol_that_is_not_there(tmp_path: Path) -> None:
    for name in ("controlnet", "../protocol", "controlnet++/nothing"):
        with pytest.raises(MillError, match=r"there are controlmill, controlnet\+\+/canny"):
            read_protocol(name)
    with pytest.raises(MillError, match="cannot be read: No such file"):
        read_protocol(str(tmp_path / "none.toml"))
