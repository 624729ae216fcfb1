"""The model card of a run: what it was trained on, how, how far, and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .log import read_log
from .run import read_run, steps_saved

LOADING = {
    False: (
        "from diffusers import ControlNetModel",
        'controlnet = ControlNetModel.from_pretrained("this/folder/controlnet")',
    ),
    True: (
        "from controlmill.training.connections import LiteControlNet",
        'controlnet = LiteControlNet.from_pretrained("this/folder/controlnet")',
    ),
}
MEASURED = ("held_out_loss", "base_loss", "gain", "benefit", "fidelity", "floor", "ceiling", "fraction")


def write(run: Path) -> None:
    """Write ``README.md`` of a run folder."""
    said = read_run(run)
    assert said is not None
    looked = [line for line in read_log(run) if "gain" in line]
    saved = steps_saved(run)
    text = card_text(said, looked[-1] if looked else {}, saved[-1] if saved else 0)
    (run / "README.md").write_text(text, encoding="utf-8")


def card_text(said: dict[str, Any], looked: dict[str, Any], step: int) -> str:
    """The text, in the form of a Hugging Face model card."""
    config = said["config"]
    annotator = said["provenance"]["annotator"]
    lines = [
        "---",
        "library_name: diffusers",
        f"base_model: {config['base']}",
        "tags: [controlnet, text-to-image]",
        "---",
        "",
        f"# A ControlNet for {config['condition']}",
        "",
        f"Trained by ControlMill for {step} steps of {config['batch_size']} on {said['rows']:,} rows "
        f"({said['held_out']:,} held out).",
        f"Maps: {config['condition']}, {annotator['variant']}, version {annotator['version']}"
        f"{', ' + json.dumps(annotator['params']) if annotator.get('params') else ''}.",
        f"Fingerprint of the data: `{said['fingerprint']}`.",
        "",
        "```python",
        *LOADING[config["connection"] == "lite"],
        "```",
        "",
    ]
    if looked:
        lines += [f"Measured on held-out rows at step {looked['step']}:", "", "| | |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {looked[name]:.4f} |" for name in MEASURED if name in looked]
        lines += ["", "![curves](curves.png)", ""]
    lines += ["## Settings", "", "```json", json.dumps(config, indent=1, sort_keys=True), "```", ""]
    return "\n".join(lines)
