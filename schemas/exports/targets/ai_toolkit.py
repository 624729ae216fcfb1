"""Ostris' ai-toolkit.

ostris/ai-toolkit: config/examples/train_lora_flex2_24gb.yaml (``control_path``), toolkit/dataloader_mixins.py
(``ControlFileItemDTOMixin``: a map has the basename of its picture, in the folder ``control_path`` itself).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ..folder import Record
from ..plan import Plan
from .files import TrainerTarget, folders_of, quoted, write_json


class AiToolkit(TrainerTarget):
    """``config.json``: Flex.2 with the maps as controls, a dataset a part."""

    summary: ClassVar[str] = "ai-toolkit: files, config.json"
    holds_several: ClassVar[bool] = True  # it draws one of them at each step
    texts: ClassVar[bool] = True

    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """See :meth:`TrainerTarget.configure`."""
        datasets = [
            {
                "folder_path": str(images),
                "control_path": [str(path) for path in maps],
                "caption_ext": "txt",
                "caption_dropout_rate": 0.05,
                "resolution": [plan.resolution],
            }
            for images, maps in folders_of(records, plan)
        ]
        process = {
            "type": "sd_trainer",
            "training_folder": str(plan.folder / "output"),
            "device": "cuda:0",
            "network": {"type": "lora", "linear": 32, "linear_alpha": 32},
            "save": {"dtype": "float16", "save_every": 250, "max_step_saves_to_keep": 4},
            "datasets": datasets,
            "train": {
                "batch_size": 1,
                "bypass_guidance_embedding": True,
                "steps": 3000,
                "gradient_accumulation": 1,
                "train_unet": True,
                "train_text_encoder": False,
                "gradient_checkpointing": True,
                "noise_scheduler": "flowmatch",
                "timestep_type": "shift",
                "optimizer": "adamw8bit",
                "lr": 1e-4,
                "disable_sampling": True,
                "dtype": "bf16",
            },
            "model": {
                "name_or_path": "ostris/Flex.2-preview",
                "arch": "flex2",
                "quantize": True,
                "quantize_te": True,
                "model_kwargs": {"control_dropout": 0.1, "inpaint_dropout": 1.0},
            },
        }
        config = {"job": "extension", "config": {"name": plan.name, "process": [process]}}
        write_json(folder / "config.json", config)

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        return f"python run.py {quoted(plan.folder / 'config.json')}"
