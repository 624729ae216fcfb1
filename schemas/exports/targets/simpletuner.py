"""SimpleTuner.

bghira/SimpleTuner: documentation/CONTROLNET.md, documentation/DATALOADER.md; helpers/multiaspect/sampler.py
(``get_conditioning_sample``: a map is looked for under its picture's whole file name, with the ending, and where it is
not, the row goes without); helpers/prompts.py (each line of a caption's file is a caption, and a file of an empty line
has none).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..folder import Record
from ..plan import Plan
from .files import TrainerTarget, quoted, write_json


class SimpleTuner(TrainerTarget):
    """``multidatabackend.json`` and ``config.json``; pictures are PNG as their maps are."""

    summary: ClassVar[str] = "SimpleTuner: files, multidatabackend.json"
    holds_several: ClassVar[bool] = True
    texts: ClassVar[bool] = True
    texts_of_maps: ClassVar[bool] = True  # a map's caption is taken instead of the picture's
    line_end: ClassVar[str] = ""
    are_png: ClassVar[bool] = True

    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """See :meth:`TrainerTarget.configure`."""
        ids = [f"{plan.name}-{table}" for table in plan.tables]
        images: dict[str, Any] = {"id": plan.name, "dataset_type": "image", "conditioning_data": ids}
        backends = [images | _backend(plan, plan.folder / self.images)]
        backends[0]["cache_dir_vae"] = str(plan.folder / "cache" / "vae")
        for name, table in zip(ids, plan.tables, strict=True):
            about = {"id": name, "dataset_type": "conditioning", "conditioning_type": "controlnet"}
            backends.append(about | _backend(plan, plan.folder / table))
        texts = {"id": f"{plan.name}-texts", "dataset_type": "text_embeds", "default": True, "type": "local"}
        backends.append(texts | {"cache_dir": str(plan.folder / "cache" / "text")})
        write_json(folder / "multidatabackend.json", backends)
        settings = {
            "controlnet": True,
            "data_backend_config": str(plan.folder / "multidatabackend.json"),
            "model_family": "sdxl",
            "model_type": "lora",
            "output_dir": str(plan.folder / "output"),
            "resolution": plan.resolution,
            "resolution_type": "pixel_area",
            "minimum_image_size": 0,
            "optimizer": "adamw_bf16",
            "learning_rate": 1e-4,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 0,
            "mixed_precision": "bf16",
            "gradient_checkpointing": True,
            "train_batch_size": 1,
            "max_train_steps": 10_000,
            "num_train_epochs": 0,
            "caption_dropout_probability": 0.1,
            "validation_disable": True,
            "report_to": "none",
            "seed": 0,
        }
        write_json(folder / "config.json", settings)

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        name = quoted(plan.name)
        return (
            f"mkdir -p config/{name} && cp {quoted(plan.folder / 'config.json')} config/{name}/ && "
            f"simpletuner train env={name} config_backend=json"
        )


def _backend(plan: Plan, folder: Path) -> dict[str, Any]:
    return {
        "type": "local",
        "instance_data_dir": str(folder),
        "caption_strategy": "textfile",
        "metadata_backend": "discovery",
        "crop": plan.is_square,
        "crop_aspect": "square",
        "crop_style": "center",
        "resolution": plan.resolution,
        "resolution_type": "pixel_area",
        "minimum_image_size": 0,
    }
