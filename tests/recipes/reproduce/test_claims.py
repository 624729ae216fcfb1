"""Claims as quantities of seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recipes.reproduce.claims import Claim, claims, quiet_loss, suddenness
from recipes.reproduce.experiments import trainings
from tests.recipes.reproduce.results import result_of

MAIN = [training for training in trainings() if training.group == "main" and training.rate == 1e-3]
ARCHITECTURES = [training for training in trainings() if training.group == "architecture"]


def the_claim(start: str) -> Claim:
    (found,) = [claim for claim in claims() if claim.text.startswith(start)]
    return found


def test_each_claim_is_about_trainings_that_there_are() -> None:
    for claim in claims():
        for match, _ in claim.of:
            assert len([training for training in trainings() if match(training)]) >= 5, claim.text


def test_a_jump_is_sudden_and_the_loss_does_not_show_it() -> None:
    result = result_of(MAIN[0], jump=500)
    found, quiet = suddenness(result), quiet_loss(result)
    assert found is not None
    assert 0.3 < found < 0.5
    assert quiet == pytest.approx(1, abs=0.01)
    slow = replace(result, looks=[replace(look, gain=look.step / 2000) for look in result.looks])
    found = suddenness(slow)
    assert found is not None
    assert found < 0
    falls = replace(result, losses=[loss - (0.1 if i >= 50 else 0) for i, loss in enumerate(result.losses)])
    quiet = quiet_loss(falls)
    assert quiet is not None
    assert quiet < 0


def test_a_training_that_never_follows_its_maps_says_nothing_of_suddenness() -> None:
    result = result_of(MAIN[0])
    assert suddenness(result) is None
    assert quiet_loss(result) is None


def test_differences_are_taken_of_seeds_that_both_have() -> None:
    claim = the_claim("without a prompt, the paper's ControlNet gives shapes their usual colours more often than lite")
    shares = {"zero": 0.9, "lite": 0.4}
    results = [
        result_of(training, {"prompts": {"none: usual colours": shares[training.connection] + 0.01 * training.seed}})
        for training in ARCHITECTURES
        if training.connection in shares and not (training.connection == "lite" and training.seed == 2)
    ]
    assert claim.seeds(results) == pytest.approx({0: 0.5, 1: 0.5, 3: 0.5, 4: 0.5})


def test_following_with_every_prompt_asks_for_all_four() -> None:
    claim = the_claim("the paper's ControlNet follows the map with every setting")
    shares = {"none": 0.7, "insufficient": 0.6, "conflicting": 0.55, "full": 0.9}
    training = next(training for training in ARCHITECTURES if training.connection == "zero")
    whole = {"prompts": {f"{kind}: followed": share for kind, share in shares.items()}}
    assert claim.seeds([result_of(training, whole)]) == pytest.approx({0: 0.05})
    del whole["prompts"]["none: followed"]
    assert claim.seeds([result_of(training, whole)]) == {}
