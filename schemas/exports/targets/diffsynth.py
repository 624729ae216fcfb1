"""DiffSynth-Studio.

modelscope/DiffSynth-Studio: examples/z_image/model_training/full/Z-Image-Turbo-Fun-Controlnet-Union-2.1.sh,
diffsynth/core/data/unified_dataset.py (``metadata.json``; a CSV would go through pandas, which reads the captions
"None", "NA" and "" as not-a-number).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ..folder import Record
from ..plan import Plan
from .files import TrainerTarget, quoted, write_json_list

BASE = "Tongyi-MAI/Z-Image-Turbo"
CONTROL = "Z-Image-Turbo-Fun-Controlnet-Union-2.1"


class DiffSynth(TrainerTarget):
    """``metadata.json``: image, prompt, controlnet_image."""

    summary: ClassVar[str] = "DiffSynth-Studio: files, metadata.json"
    holds_several: ClassVar[bool] = False

    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """See :meth:`TrainerTarget.configure`."""
        lines = (
            {"image": record.image, "prompt": record.caption, "controlnet_image": record.maps[plan.tables[0]]}
            for record in records
        )
        write_json_list(folder / "metadata.json", lines)

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        models = [
            f"PAI/{CONTROL}:{CONTROL}.safetensors",
            *(f"{BASE}:{part}/*.safetensors" for part in ("transformer", "text_encoder")),
            f"{BASE}:vae/diffusion_pytorch_model.safetensors",
        ]
        return " ".join(
            [
                "accelerate launch examples/z_image/model_training/train.py",
                f"--dataset_base_path {quoted(plan.folder)}",
                f"--dataset_metadata_path {quoted(plan.folder / 'metadata.json')}",
                '--data_file_keys "image,controlnet_image" --extra_inputs "controlnet_image"',
                f"--max_pixels {plan.resolution**2} --dataset_repeat 1 --num_epochs 2 --learning_rate 1e-5",
                f"--model_id_with_origin_paths {quoted(','.join(models))}",
                '--trainable_models "controlnet" --remove_prefix_in_ckpt "pipe.controlnet."',
                f"--output_path {quoted(plan.folder / 'output')} --use_gradient_checkpointing",
            ]
        )
