"""kohya's sd-scripts.

kohya-ss/sd-scripts: docs/train_lllite_README.md (``conditioning_data_dir``), library/train_util.py
(``ControlNetDataset``: a map has the basename of its picture; a caption is the first line of NAME.txt, and an empty
file stops it; a NAME of five parts between ``_`` may be given the caption of a shorter one).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ..folder import Record
from ..plan import Plan
from .files import TrainerTarget, folders_of, quoted, toml

SDXL_FROM = 768  # pixels of a side: smaller ones train Stable Diffusion 1.5
STEP = 64  # of buckets


class Kohya(TrainerTarget):
    """``dataset.toml``, a subset a part, and ``config.toml``."""

    summary: ClassVar[str] = "kohya's sd-scripts: files, dataset.toml"
    holds_several: ClassVar[bool] = False
    texts: ClassVar[bool] = True

    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """See :meth:`TrainerTarget.configure`."""
        dataset = [
            "[[datasets]]",
            f"resolution = {plan.resolution}",
            "batch_size = 1",
            f"enable_bucket = {toml(not plan.is_square)}",
        ]
        if not plan.is_square:
            dataset += [f"min_bucket_reso = {STEP}", f"max_bucket_reso = {-(-4 * plan.resolution // STEP) * STEP}"]
        for images, (maps,) in folders_of(records, plan):
            dataset += ["", "[[datasets.subsets]]", f"image_dir = {toml(images)}"]
            dataset += ['caption_extension = ".txt"', f"conditioning_data_dir = {toml(maps)}"]
        (folder / "dataset.toml").write_text("\n".join(dataset) + "\n", "utf-8")
        settings: dict[str, str | int | float | bool | Path] = {
            "pretrained_model_name_or_path": _base(plan),
            "dataset_config": plan.folder / "dataset.toml",
            "output_dir": plan.folder / "output",
            "output_name": plan.name,
            "save_model_as": "safetensors",
            "mixed_precision": "bf16",
            "optimizer_type": "AdamW",
            "learning_rate": 1e-5,
            "max_train_steps": 10_000,
            "gradient_checkpointing": True,
            "sdpa": True,
            "seed": 0,
        }
        lines = [f"{name} = {toml(value)}" for name, value in settings.items()]
        (folder / "config.toml").write_text("\n".join(lines) + "\n", "utf-8")

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        script = "sdxl_train_control_net.py" if plan.resolution >= SDXL_FROM else "train_control_net.py"
        return f"accelerate launch {script} --config_file {quoted(plan.folder / 'config.toml')}"


def _base(plan: Plan) -> str:
    large = plan.resolution >= SDXL_FROM
    return "stabilityai/stable-diffusion-xl-base-1.0" if large else "stable-diffusion-v1-5/stable-diffusion-v1-5"
