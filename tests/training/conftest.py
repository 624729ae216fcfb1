"""What several tests of training share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which weights are loaded, or a model is moved to a device."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    for name in (
        "diffusers.ModelMixin.from_pretrained",
        "transformers.PreTrainedModel.from_pretrained",
        "diffusers.loaders.single_file.load_single_file_checkpoint",
        "safetensors.torch.load_file",
        "torch.load",
        "controlmill.training.run.checkpoint.load_file",
        "controlmill.bases.stable_diffusion.StableDiffusion.__init__",
    ):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("controlmill.annotators.runtime.hub.answers", lambda: False)
