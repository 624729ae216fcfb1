"""The model card of a run: what it was trained on, how, how far, and what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from controlmill.bases.base import Facts
from controlmill.bases.configuration import OWN_CLASSES
from controlmill.bases.registry import read_facts
from controlmill.schemas.files.whole import write_whole

from ..config import TrainConfig
from .converged import Convergence, read_convergence, rise_text
from .metrics import EvaluationRecord, evaluations, scalars
from .record import RunRecord, is_path, published, read_run
from .saved import steps_saved

HERE = "this/folder"
CALL = """import torch
from diffusers import {imports}
from diffusers.utils import load_image
{own}
controlnet = {kind}.from_pretrained("{here}", dtype=torch.float32)
{unet}pipeline = {pipeline}.from_pretrained(
    "{base}", controlnet=controlnet, {arguments}dtype=torch.float32
)
pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
image = pipeline("a prompt", image=load_image("map.png"), num_inference_steps={steps}).images[0]"""
UNET = f'unet = UNet2DConditionModel.from_pretrained("{HERE}/unet", dtype=torch.float32)  # it is trained as well\n'
OWN = "from controlmill.bases.ablations import {}\n"
CARD, SAMPLES, CURVES = "README.md", "samples", "curves.png"
SHOWN = {  # a number, and the name of its standard error
    "held_out_loss": "",
    "base_loss": "",
    "gain": "gain_error",
    "benefit": "benefit_error",
    "deranged_benefit": "deranged_benefit_error",
    "fidelity": "",
    "floor": "",
    "fidelity_gain": "fidelity_gain_error",
    "no_control": "",
    "blank": "",
    "ceiling": "",
    "fraction": "",
}

TITLES = {
    "deranged_benefit": "benefit of other rows' maps",
    "floor": "floor: against other rows' maps",
    "no_control": "without control",
    "blank": "sampled with a blank map",
}


def write(run: Path) -> None:
    """Write ``README.md`` of a run folder."""
    record = read_run(run)
    assert record is not None
    evaluated = evaluations(run)
    saved = steps_saved(run)
    samples = grids(run)
    shown = next((each for each in reversed(evaluated) if each.fidelity), evaluated[-1] if evaluated else None)
    convergence, step, grid = read_convergence(run), saved[-1] if saved else 0, samples[-1].name if samples else ""
    text = card_text(record, read_facts(record.config.base), shown, convergence, step, grid)
    write_whole(run / CARD, text.encode())


def grids(run: Path) -> list[Path]:
    """Sampled pictures of each evaluation, whose names are its step, in order."""
    return sorted((run / SAMPLES).glob(f"{'[0-9]' * 8}.png"))


def call_text(config: TrainConfig, facts: Facts) -> str:
    """Python that draws a picture with the run's ControlNet in the stock pipeline."""
    own, unlocked = OWN_CLASSES.get(config.connection), config.unlock != "none"
    names = {"DDIMScheduler", facts.pipeline}
    names |= ({"UNet2DConditionModel"} if unlocked else set()) | (set() if own else {"ControlNetModel"})
    base, _, revision = config.base.partition("@") if _is_on_hub(config.base) else (published(config).base, "", "")
    arguments = [*(["unet=unet"] if unlocked else []), *([f'revision="{revision}"'] if revision else [])]
    arguments += [f"{name}={value}" for name, value in facts.left_out.items()]
    return CALL.format(
        imports=", ".join(sorted(names)),
        own=OWN.format(own) if own else "",
        kind=own or "ControlNetModel",
        here=HERE,
        unet=UNET if unlocked else "",
        base="the/tiny/base" if config.base == "tiny" else base,
        pipeline=facts.pipeline,
        arguments="".join(f"{argument}, " for argument in arguments),
        steps=config.sampling_steps,
    )


def _is_on_hub(base: str) -> bool:
    return "/" in base and not is_path(base)


def card_text(
    record: RunRecord, facts: Facts, evaluation: EvaluationRecord | None, convergence: Convergence, step: int, grid: str
) -> str:
    """The text, in the form of a Hugging Face model card; ``grid`` is the last picture in ``samples/``."""
    config, annotator = record.config, record.provenance.made_by
    lines = [
        "---",
        "library_name: diffusers",
        *([f"base_model: {config.base.partition('@')[0]}"] if _is_on_hub(config.base) else []),
        "tags: [controlnet, text-to-image]",
        "---",
        "",
        f"# A ControlNet for {config.condition}",
        "",
        f"Trained by ControlMill for {step} steps of {config.batch_size} on {record.rows:,} rows "
        f"({record.held_out:,} held out), on the base {published(config).base}.",
        f"Maps: {config.condition}, {annotator.variant}, version {annotator.version}"
        f"{', ' + json.dumps(annotator.params) if annotator.params else ''}.",
        f"Fingerprint of the data: `{record.fingerprint}`.",
        "",
        "```python",
        *call_text(config, facts).split("\n"),
        "```",
        "",
    ]
    if grid:
        lines += [f"Samples at step {int(grid.removesuffix('.png'))}:", "", f"![samples]({SAMPLES}/{grid})", ""]
    if evaluation:
        values, fidelity = scalars(evaluation), evaluation.fidelity
        lines += [f"Measured on held-out rows at step {evaluation.step}:", "", "| | |", "|---|---|"]
        for name, error in SHOWN.items():
            if name in values:
                tail = f" ± {values[error]:.4f}" if error else ""
                lines.append(f"| {TITLES.get(name, name.replace('_', ' '))} | {values[name]:.4f}{tail} |")
        lines += ["", f"Fidelity is {fidelity.measure}."] if fidelity else []
        lines += ["", *_convergence_text(convergence, fidelity is not None), "", f"![curves]({CURVES})", ""]
    settings = json.dumps(asdict(published(config)), indent=1, sort_keys=True)
    lines += ["## Settings", "", "```json", settings, "```", ""]
    return "\n".join(lines)


def _convergence_text(convergence: Convergence, is_measured: bool) -> list[str]:
    """When maps began to be followed, in a line each."""
    lines = []
    if convergence.step is not None:
        lines.append(f"Maps are followed from step {convergence.step} on.")
    elif is_measured:
        lines.append("No two evaluations in a row show that maps are followed.")
    if convergence.rise:
        lines.append(f"The {rise_text(convergence.rise)}.")
    return lines
