"""One picture for a user: a photo is annotated as the run's maps were (or a map is given), and a picture is sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from controlmill.evaluation.fidelity import FidelityMetric, make_fidelity_metric
from controlmill.evaluation.user_pictures import annotated, fitted, given_map, nearest_shape
from controlmill.schemas.errors import MillError
from controlmill.schemas.maps.transforms import control_image, control_picture
from controlmill.schemas.stored import stored_condition

from .run.record import RunRecord, read_run
from .run.saved import controlnet_folder, steps_saved


def check(run: Path, image: Path | None, control: Path | None) -> RunRecord:
    """The record of a run that can draw; torch is not needed to tell.

    Raises:
        MillError: no run or no checkpoint; neither or both of ``image`` and ``control``; no such file.
    """
    record = read_run(run)
    if record is None:
        raise MillError(f"{run} is not a run (no run.json)")
    if (image is None) == (control is None):
        raise MillError("give --image, a photo to annotate, or --control, a finished map")
    if not steps_saved(run) and not (run / "config.json").is_file():
        raise MillError(f"{run} has no checkpoint yet")
    for flag, path in (("--image", image), ("--control", control)):
        if path is not None and not path.is_file():
            raise MillError(f"{flag} {path}: no such file")
    return record


def draw(
    run: Path,
    image: Path | None,
    control: Path | None,
    prompt: str,
    seed: int,
    count: int,
    steps: int,
    guidance: float,
    device: str,
    weights: str = "",
) -> tuple[list[np.ndarray], np.ndarray]:
    """(pictures, the map as a picture), each uint8 (H, W, 3). ``weights`` is the annotators' folder; else the run's.

    Raises:
        MillError: see :func:`check`; a file that is no picture; a condition that cannot be made here.
    """
    record = check(run, image, control)
    config, provenance = record.config, record.provenance
    condition = stored_condition(provenance)
    given = control or image
    assert given is not None
    height, width = nearest_shape(given, record.shapes)
    if control is not None:
        array = given_map(control, condition, (width, height))
    else:
        metric = make_fidelity_metric(condition, provenance, device, weights or config.weights)
        if not isinstance(metric, FidelityMetric):
            raise MillError(f"--image cannot be annotated ({metric}): give a finished map with --control")
        array = annotated(fitted(given, (width, height)), metric, seed)
    import torch
    from safetensors.torch import load_file

    from controlmill.bases.registry import load_base
    from controlmill.evaluation.sampling.sampler import sample_pictures, start_noise

    folder = Path(controlnet_folder(str(run)))
    base = load_base(config.base, torch.device(device))
    if config.unlock != "none":
        unet = (folder if folder == run.expanduser() else folder.parent) / "unet"
        base.denoiser.load_state_dict(load_file(unet / "diffusion_pytorch_model.safetensors"))
    controlnet = base.load_controlnet(str(folder), config.connection).to(base.device)
    start = start_noise(base, [(0, i) for i in range(count)], seed, height, width)
    picture = np.repeat(control_image(condition, array)[None], count, axis=0)
    pictures = sample_pictures(
        base, controlnet, [prompt] * count, picture, start, steps or config.sampling_steps, guidance or base.guidance
    )
    return pictures, control_picture(condition, array)
