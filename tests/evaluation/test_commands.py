"""The commands weights and doctor: whose files are meant, and what is left alone until a licence is accepted."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from typer.testing import CliRunner

from controlmill.annotators.runtime import weights
from controlmill.annotators.runtime.weights import Found, WeightsFile
from controlmill.evaluation.commands import doctor, weights_app
from controlmill.evaluation.features.catalogue import PICTURE_MEASURES
from controlmill.evaluation.features.lpips import ALEXNET, LAYER_WEIGHTS
from controlmill.schemas.errors import MillError

OPENPOSE = "body_pose_model.pth"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that the hub is asked for."""
    names: list[str] = []

    def fetch(files: Iterable[WeightsFile]) -> list[Found]:
        names.extend(file.name for file in files)
        return []

    monkeypatch.setattr(weights, "fetch", fetch)
    return names


def run(*words: str) -> str:
    return CliRunner().invoke(weights_app, ["fetch", *words], catch_exceptions=False).output


def test_all_leaves_out_what_was_not_accepted_and_says_so(asked: list[str]) -> None:
    said = run()
    assert OPENPOSE not in asked
    assert "ControlNetHED.pth" in asked
    assert said.splitlines() == [
        "left out, weights with a licence of their own (non-commercial use only): pose=body: --accept-license openpose"
    ]


def test_all_brings_what_was_accepted(asked: list[str]) -> None:
    assert run("--accept-license", "openpose") == ""
    assert OPENPOSE in asked


def test_named_weights_need_their_licence(asked: list[str]) -> None:
    with pytest.raises(MillError, match=r"non-commercial use only.*\n  pose=face: --accept-license openpose"):
        run("--conditions", "hed,pose=face", "--accept-license", "segformer")
    assert asked == []
    run("--conditions", "pose=face", "--accept-license", "openpose")
    assert OPENPOSE in asked


def test_weights_of_measures_and_of_a_protocols_judge_are_fetched(asked: list[str]) -> None:
    run("--measures", "fid,lpips")
    assert asked == ["pt_inception-2015-12-05-6726825d.pth", "alexnet-owt-7be5be79.pth", "lpips/alex.pth"]
    asked.clear()
    run("--protocol", "controlnet++/depth", "--conditions", "hed")
    assert {name.partition("/")[0] for name in asked} > {"ControlNetHED.pth", "dpt-large"}
    with pytest.raises(MillError, match=r"no measure of pictures is called 'fi'; there are fid, kid"):
        run("--measures", "fi")


def test_a_listing_says_who_needs_a_file_and_where_it_is_published() -> None:
    words = ["list", "--measures", "all", "--protocol", "controlnet++/hed"]
    lines = CliRunner().invoke(weights_app, words, catch_exceptions=False).output.splitlines()
    assert any(line.startswith("fid, kid: pt_inception") and "from https://" in line for line in lines)
    assert any(line.startswith("judge hed=soft: ControlNetHED.pth") for line in lines)


def test_what_is_not_kept_on_the_hub_is_taken_from_its_package_or_named_with_its_address() -> None:
    (found,) = weights.fetch([LAYER_WEIGHTS])
    assert found.origin.startswith(LAYER_WEIGHTS.repo)
    with pytest.raises(MillError, match=r"1 files are here.*\n  https://.*alexnet.*by hand as FOLDER/alexnet"):
        weights.fetch([LAYER_WEIGHTS, ALEXNET])


def test_doctor_tells_of_measures_and_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(json=True)
    report = json.loads(capsys.readouterr().out)
    assert {line["measure"] for line in report["measures"]} == set(PICTURE_MEASURES)
    assert {line["protocol"]: line["judge"] for line in report["protocols"]}["controlnet++/depth"] == "depth=dpt-large"
    doctor()
    said = capsys.readouterr().out
    assert "clip_score" in said
    assert "judge depth=dpt-large" in said
