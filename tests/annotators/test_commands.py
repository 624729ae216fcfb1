"""The command weights fetch: what it asks the hub for, and what it leaves alone until a licence is accepted."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from typer.testing import CliRunner

from controlmill.annotators.commands import weights_app
from controlmill.annotators.runtime import weights
from controlmill.annotators.runtime.weights import Found, WeightsFile
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
