"""Evaluation is a function of base, ControlNet, samples and settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel

from controlmill.bases.base import Base
from controlmill.bases.registry import load_base, read_facts
from controlmill.bases.stable_diffusion import StableDiffusionFacts
from controlmill.evaluation import evaluate as module
from controlmill.evaluation.evaluate import EvaluationSamples, EvaluationSettings, evaluate, measure_baseline
from controlmill.evaluation.fidelity import FidelityMetric, make_fidelity_metric, stored_columns
from controlmill.evaluation.rows import Sample
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.training.data.held_out import held_out_samples
from controlmill.training.data.selection import select
from tests.evaluation.sampling.test_sampler import connected


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), torch.device("cpu"))


@pytest.fixture(scope="module")
def controlnet(base: Base) -> ControlNetModel:
    return connected(base)


@pytest.fixture(scope="module")
def rows(scenes_dataset: Dataset) -> list[Sample]:
    """Five stored rows."""
    selection = select(scenes_dataset, ["canny"], [], 0.2)
    condition, index = CONDITIONS["canny"], scenes_dataset.index("canny")
    assert index is not None
    columns = stored_columns(condition, index.provenance)
    return held_out_samples(scenes_dataset, condition, selection.held_out, 5, 0, columns)


@pytest.fixture(scope="module")
def settings(scenes_dataset: Dataset) -> EvaluationSettings:
    condition, index = CONDITIONS["canny"], scenes_dataset.index("canny")
    assert index is not None
    metric = make_fidelity_metric(condition, index.provenance)
    assert isinstance(metric, FidelityMetric)
    return EvaluationSettings(condition, sampling_steps=1, batch_size=4, fidelity=metric)


def test_evaluating_again_gives_the_same_and_changes_nothing(
    base: Base, controlnet: ControlNetModel, rows: list[Sample], settings: EvaluationSettings
) -> None:
    controlnet.train()
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in controlnet.state_dict().items()}
    samples = EvaluationSamples(rows, rows[:2])
    first = evaluate(base, controlnet, samples, settings)
    again = evaluate(base, controlnet, samples, settings, measure_baseline(base, samples, settings))
    assert replace(first, pictures=[], blank=[]) == replace(again, pictures=[], blank=[])
    np.testing.assert_array_equal(first.pictures + first.blank, again.pictures + again.blank)
    assert np.isfinite([first.gain.mean, first.gain.error, first.benefit.mean]).all()
    assert controlnet.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in controlnet.state_dict().items())


def test_measurements_do_not_depend_on_how_many_go_at_once(
    base: Base, rows: list[Sample], settings: EvaluationSettings
) -> None:
    samples = EvaluationSamples(rows[:4], rows[:3])
    many, one = (measure_baseline(base, samples, replace(settings, batch_size=size)) for size in (4, 1))
    assert torch.equal(many.inputs.noise, one.inputs.noise)
    torch.testing.assert_close(many.inputs.latents, one.inputs.latents, atol=1e-5, rtol=0)
    np.testing.assert_allclose(many.losses, one.losses, rtol=1e-4)
    a, b = (np.stack(baseline.pictures).astype(int) for baseline in (many, one))
    assert np.abs(a - b).max() <= 1


def test_times_are_those_of_the_base(small_base: Path, rows: list[Sample], settings: EvaluationSettings) -> None:
    facts = read_facts(str(small_base))
    assert isinstance(facts, StableDiffusionFacts)
    few = replace(facts, scheduler={**facts.scheduler, "num_train_timesteps": 100}).load(torch.device("cpu"))
    assert few.schedule.times == 100
    assert np.isfinite(measure_baseline(few, EvaluationSamples(rows[:2]), settings).losses).all()


@pytest.mark.parametrize("prompt", ["", None])
def test_pictures_may_be_sampled_without_a_prompt(
    prompt: str | None,
    base: Base,
    rows: list[Sample],
    settings: EvaluationSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[list[str]] = []

    def note(base: Base, controlnet: Any, prompts: list[str], *rest: Any) -> list[np.ndarray]:
        given.append(prompts)
        return [sample.image for sample in rows[:2]]

    monkeypatch.setattr(module, "sample_pictures", note)
    assert all(sample.caption for sample in rows)
    measure_baseline(base, EvaluationSamples(rows[:2], rows[:2]), replace(settings, prompt=prompt))
    assert given == [["", ""] if prompt == "" else [sample.caption for sample in rows[:2]]]


def test_a_picture_is_annotated_once_for_all_metrics(
    base: Base,
    controlnet: ControlNetModel,
    rows: list[Sample],
    settings: EvaluationSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    annotation, calls = FidelityMetric.annotation, []
    monkeypatch.setattr(FidelityMetric, "annotation", lambda *given: calls.append(1) or annotation(*given))
    measured = evaluate(base, controlnet, EvaluationSamples(rows[:2], rows[:2]), settings)
    assert measured.fidelity is not None
    assert measured.fidelity.others.keys() == {"F1 exact"}
    # two pictures: without control; true ones for their rows and for other rows; sampled ones likewise, and blank ones
    assert len(calls) == 12


def test_a_users_own_pictures_are_sampled_and_not_measured(
    base: Base, controlnet: ControlNetModel, rows: list[Sample], settings: EvaluationSettings
) -> None:
    measured = evaluate(base, controlnet, EvaluationSamples(rows[:2], (), rows[2:4]), settings)
    assert measured.fidelity is None
    assert len(measured.pictures) == 2
