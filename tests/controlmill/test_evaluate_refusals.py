"""What evaluate refuses, before anything is sampled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import command


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("RUN DATASET", "give RUN|CONTROLNET DATASET RESULTS: 3 arguments, not 2"),
        (
            "runs/cany DATASET NEW",
            "cany: no such folder or file here. If it is a ControlNet on the Hub, also give --condition and --base",
        ),
        ("RUN DATASET NEW --protocol paper-table2", "protocol paper-table2 is for segmentation, not for canny"),
        ("RUN DATASET NEW --protocol none", "no protocol is called 'none'"),
        ("RUN DATASET NEW --judge canny=nope", "canny has no variant 'nope'"),
        ("RUN DATASET NEW --judge hed", "the judge hed makes hed, the true maps of canny are canny"),
        ("RUN DATASET NEW --truth segmentation", "segmentation was made by no annotator that is here: name a judge"),
        ("RUN DATASET NEW --truth pose --judge pose=body", "pose=body: --accept-license openpose"),
        ("RUN DATASET NEW --truth pose --judge pose=body --accept-license openpose --weights EMPTY", "body_pose_model"),
        ("RUN DATASET NEW --prompts all", "--prompts all: some of none, default, auto, user"),
        ("RUN DATASET NEW --prompts auto --weights EMPTY", "blip"),
        ("RUN DATASET DATASET", "is a dataset, and no results of evaluate"),
        ("RUN DATASET NEW --base /no/such", "no such file or folder"),
        (
            "EMPTY DATASET NEW --condition canny --base tiny",
            "neither a run with a checkpoint, a ControlNet's folder nor a",
        ),
        ("DATASET NEW --self-test --condition canny", "the protocol controlmill names no published ControlNet"),
        ("--pictures EMPTY DATASET NEW --self-test", "--pictures: another method made them"),
        ("--pictures /no/such DATASET NEW --condition canny", "controlmill: --pictures /no/such: no such folder\n"),
        (
            "--pictures EMPTY DATASET NEW --condition canny --steps 3",
            "another method made them, so there is no --steps",
        ),
        ("RUN DATASET NEW --control-start 0.6 --control-end 0.5", "sampling: control_start 0.6, control_end 0.5"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_sampled(
    trained_once: Path,
    scenes_folder: Path,
    tmp_path: Path,
    options: str,
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    named = {"RUN": trained_once, "DATASET": scenes_folder, "NEW": tmp_path / "new", "EMPTY": tmp_path / "empty"}
    ended = command("evaluate", *(str(named.get(word, word)) for word in options.split()), "--device", "cpu")
    assert ended.returncode == 1
    assert said in ended.stderr
    assert not (tmp_path / "new").exists()


def test_a_run_that_trained_its_base_is_not_evaluated_with_another(
    trained_once: Path, scenes_folder: Path, small_base: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_once, tmp_path / "run", symlinks=True))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "config": {**record["config"], "unlock": "decoder"}}))
    other = shutil.copytree(small_base, tmp_path / "other")
    ended = command("evaluate", str(run), str(scenes_folder), str(tmp_path / "new"), "--base", str(other))
    assert ended.returncode == 1
    assert "trained together with its base (--unlock decoder)" in ended.stderr
