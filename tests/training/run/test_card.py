"""A run's model card: what was done and found, and code that works."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from controlmill.bases.registry import read_facts
from controlmill.evaluation.rise import Bounds, Rise
from controlmill.training.run import card
from controlmill.training.run.card import call_text
from controlmill.training.run.converged import Convergence, write_convergence
from tests.training_runs import MakeConfig, TrainRun


def test_the_model_card_says_what_was_done_and_found(finished_run: Path) -> None:
    text = (finished_run / "README.md").read_text()
    said = json.loads((finished_run / "run.json").read_text())
    for part in (said["fingerprint"], "2 steps of 4", "canny, random, version 1", "benefit", '"prompt_dropout": 0.5'):
        assert part in text


def test_the_card_says_what_fidelity_stands_beside_and_how_sudden_control_came(finished_run: Path) -> None:
    text = (finished_run / "README.md").read_text()
    for name in ("floor: against other rows' maps", "without control", "sampled with a blank map", "ceiling", "gain"):
        assert f"| {name} | " in text
    assert "Fidelity is F1 within 1 px." in text
    assert "No two evaluations in a row show that maps are followed." in text
    assert "sudden" not in text
    bounds = Bounds(30.0, 20.0, 40.0)
    rise = Rise(Bounds(300.0, 290.0, 310.0), bounds, Bounds(0.1, 0.05, 0.15), "yes")
    write_convergence(finished_run, Convergence(400, rise))
    card.write(finished_run)
    text = (finished_run / "README.md").read_text()
    assert "Maps are followed from step 400 on." in text
    assert "The gain rose around step 300 from 10 % to 90 % within 20 to 40 steps, " in text
    assert "0.05 to 0.15 of the steps before: sudden." in text


def test_the_card_draws_a_picture_with_the_stock_pipeline(
    train_run: TrainRun, short_config: MakeConfig, small_base: Path, tmp_path: Path
) -> None:
    evaluation = {
        "held_out": 0.2,
        "evaluation_rows": 2,
        "evaluation_samples": 1,
        "sampling_steps": 1,
        "evaluate_every": 1,
        "evaluation_budget": 0.0,
    }
    run = tmp_path / "run"
    train_run(run, short_config(steps=1, unlock="decoder", **evaluation))
    text = (run / "README.md").read_text()
    assert "![samples](samples/00000001.png)" in text
    assert (run / "samples" / "00000001.png").is_file()
    assert "base_model" not in text  # a folder is no model of the Hub
    Image.new("RGB", (64, 64)).save(tmp_path / "map.png")
    code = text.split("```python\n")[1].split("```")[0]
    for said, here in (("this/folder", run), ('"small"', f'"{small_base}"'), ("map.png", tmp_path / "map.png")):
        assert said in code
        code = code.replace(said, str(here))
    found = {}
    exec(code, found)
    assert found["image"].size == (64, 64)


def test_a_base_at_a_revision_of_the_hub_is_loaded_at_it(short_config: MakeConfig, small_base: Path) -> None:
    facts = read_facts(str(small_base))
    code = call_text(short_config(base="someone/base@0123abc"), facts)
    assert '"someone/base", controlnet=controlnet, revision="0123abc", ' in code
    assert "revision" not in call_text(short_config(base="./some@folder"), facts)
