"""Models of transformers, loaded from single files: a config.json and a state dict, wherever each was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError

from .torch_device import load_state_dict
from .weights import WeightsFile


def model_files(
    repo: str, revision: str, licence: str, weights: tuple[str, float], **sha256: str
) -> tuple[WeightsFile, ...]:
    """config.json and the weights of a hub repository; in a local folder they lie in a folder with its name.

    ``weights`` is a file name and megabytes; ``sha256`` has sums for ``config`` and ``model`` where they are confirmed.
    """
    folder = repo.split("/")[1]
    files = (("config.json", 0.1, sha256.get("config")), (*weights, sha256.get("model")))
    return tuple(
        WeightsFile(f"{folder}/{name}", repo, revision, digest, megabytes, licence, remote=name)
        for name, megabytes, digest in files
    )


def load_model(
    model_class: Any,
    files: tuple[WeightsFile, ...],
    paths: Mapping[str, Path],
    **settings: Any,
) -> Any:
    """The model, float32, on the CPU.

    Args:
        model_class: a ``PreTrainedModel``.
        files: what :func:`model_files` returned.
        paths: names of ``files`` → local paths.
        settings: replace entries of the configuration.

    Raises:
        MillError: weights are missing in the file, or of another shape.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    config, weights = (paths[file.name] for file in files[:2])
    configuration = model_class.config_class.from_json_file(config)
    for key, value in settings.items():
        setattr(configuration, key, value)
    model, report = model_class.from_pretrained(
        None, config=configuration, state_dict=load_state_dict(weights), dtype=torch.float32, output_loading_info=True
    )
    if report["missing_keys"] or report["mismatched_keys"]:
        faults = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
        raise MillError(f"{weights} does not fit {model_class.__name__}: {len(faults)} entries, as {faults[0]}")
    return model
