"""Settings of a run: their ranges, recipes, and which of several says a value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from controlmill.schemas.errors import MillError
from controlmill.schemas.terminal.options import flag_of, types_of
from controlmill.training.config import TrainConfig, make_config, read_recipe
from tests.training_runs import MakeConfig


def test_recipes_hold_the_papers_settings_and_flags_go_first() -> None:
    config = make_config("paper", {"condition": "canny", "learning_rate": 2e-5, "steps": None})
    assert (config.prompt_dropout, config.connection, config.guidance_scale, config.learning_rate) == (
        0.5,
        "zero",
        9.0,
        2e-5,
    )
    for name in ("paper", "paper-small", "paper-large", "toy"):
        make_config(name, {"condition": "canny"})
    with pytest.raises(MillError, match="there are: paper, paper-large"):
        read_recipe("nothing")


def test_a_recipe_file_with_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("speed = 3\n")
    with pytest.raises(MillError, match="no setting speed"):
        make_config(str(tmp_path / "mine.toml"), {"condition": "canny"})


NUMBERS = [name for name, kind in types_of(TrainConfig).items() if kind in (int, float)]

FLOATS = [name for name, kind in types_of(TrainConfig).items() if kind is float]


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_below_zero(name: str) -> None:
    with pytest.raises(MillError, match=rf"^{flag_of(name)} -1: must be .*$"):
        TrainConfig(condition="canny", **{name: -1}).check()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", FLOATS)
def test_every_float_is_finite(name: str, value: float) -> None:
    with pytest.raises(MillError, match=f"^{flag_of(name)} {value}: must be a finite number$"):
        TrainConfig(condition="canny", **{name: value}).check()


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("learning_rate", 1e-9, 0.0, "above 0"),
        ("unlock_learning_rate", 1e-9, 0.0, "above 0"),
        ("max_grad_norm", 0.0, -0.1, "0 or more"),
        ("steps", 1, 0, r"from 1 to below 10\*\*8"),
        ("steps", 10**8 - 1, 10**8, r"from 1 to below 10\*\*8"),
        ("batch_size", 1, 0, "from 1 to 65536"),
        ("batch_size", 2**16, 2**16 + 1, "from 1 to 65536"),
        ("keep_checkpoints", 1, 0, "1 or more"),
        ("sampling_steps", 1, 0, "1 or more"),
        ("threads", 1, 0, "1 or more"),
        ("evaluation_rows", 2, 1, "2 or more"),
        ("prompt_dropout", 1.0, 1.1, "from 0 to 1"),
        ("held_out", 0.99, 1.0, "from 0 to below 1"),
        ("ema_decay", 0.99, 1.0, "from 0 to below 1"),
        ("seed", 2**63 - 1, 2**63, r"from 0 to below 2\*\*63"),
    ],
)
def test_where_the_range_of_a_number_ends(name: str, good: float, bad: float, said: str) -> None:
    TrainConfig(condition="canny", **{name: good}).check()
    with pytest.raises(MillError, match=f"^{flag_of(name)} {bad}: must be {said}$"):
        TrainConfig(condition="canny", **{name: bad}).check()


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(MillError) as found:
        TrainConfig(precision="fp8", max_grad_norm=-1.0, min_snr_gamma=-5.0, learning_rate=math.nan).check()
    assert str(found.value).split("\n  ") == [
        "--learning-rate nan: must be a finite number",
        "--max-grad-norm -1.0: must be 0 or more",
        "--min-snr-gamma -5.0: must be 0 or more",
        "--precision fp8: must be one of fp32, bf16, fp16",
        "--condition: say which table to train on",
    ]


def test_a_setting_that_may_be_left_open_is_checked_when_it_is_given() -> None:
    assert make_config(None, {"condition": "canny", "evaluation_prompt": ""}).evaluation_prompt == ""
    assert make_config(None, {"condition": "canny"}).evaluation_prompt is None
    with pytest.raises(MillError, match="settings: evaluation_prompt = 3: must be text"):
        make_config(None, {"condition": "canny", "evaluation_prompt": 3})


@pytest.mark.parametrize(
    ("steps", "evaluation", "save"), [(20, 50, 50), (100, 50, 50), (1_000, 50, 100), (20_000, 1_000, 1_000)]
)
def test_a_short_trial_is_spent_on_steps(steps: int, evaluation: int, save: int, short_config: MakeConfig) -> None:
    config = short_config(steps=steps)
    assert (config.evaluation_interval, config.checkpoint_interval) == (evaluation, save)
    assert short_config(steps=steps, evaluate_every=3).evaluation_interval == 3
