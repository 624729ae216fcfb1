"""The schedule of diffusion models: how much a loss counts at which time."""

from __future__ import annotations

import pytest
import torch

from controlmill.bases.diffusion_schedule import DiffusionSchedule


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_those_of_the_paper(prediction: str) -> None:
    schedule = DiffusionSchedule({"prediction_type": prediction}, torch.device("cpu"))
    t = torch.tensor([0, 100, 500, 999])
    alphas = schedule.alphas[t].double()
    snr = alphas / (1 - alphas)
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr if prediction == "epsilon" else snr + 1)
    torch.testing.assert_close(schedule.snr_weight(t, 5.0).double(), expected, rtol=1e-4, atol=1e-6)
    assert schedule.snr_weight(t, 5.0)[0] < 0.1  # little noise: little weight
    schedule.alphas[999] = 0.0  # a schedule that ends in noise alone
    assert schedule.snr_weight(t, 5.0)[-1] == (1 if prediction == "epsilon" else 0)
