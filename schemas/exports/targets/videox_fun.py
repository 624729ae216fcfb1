"""VideoX-Fun.

aigc-apps/VideoX-Fun: scripts/qwenimage_fun/README_TRAIN.md (2.3 metadata.json, 2.4 relative paths),
scripts/qwenimage_fun/train_control.sh.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ..folder import Record
from ..plan import Plan
from .files import TrainerTarget, quoted, write_json_list


class VideoXFun(TrainerTarget):
    """``metadata.json``: file_path, control_file_path, text, width, height, type."""

    summary: ClassVar[str] = "VideoX-Fun: files, metadata.json"
    holds_several: ClassVar[bool] = False

    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """See :meth:`TrainerTarget.configure`."""
        lines = (
            {
                "file_path": record.image,
                "control_file_path": record.maps[plan.tables[0]],
                "text": record.caption,
                "width": record.width,
                "height": record.height,
                "type": "image",
            }
            for record in records
        )
        write_json_list(folder / "metadata.json", lines)

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        return " ".join(
            [
                "accelerate launch --mixed_precision=bf16 scripts/qwenimage_fun/train_control.py",
                "--config_path=config/qwenimage/qwenimage_control.yaml",
                "--pretrained_model_name_or_path=models/Diffusion_Transformer/Qwen-Image-2512",
                f"--train_data_dir={quoted(plan.folder)}",
                f"--train_data_meta={quoted(plan.folder / 'metadata.json')}",
                f"--train_batch_size=1 --image_sample_size={plan.resolution} --dataloader_num_workers=8",
                "--num_train_epochs=100 --checkpointing_steps=50 --learning_rate=2e-05 --seed=42",
                "--lr_scheduler=constant_with_warmup --lr_warmup_steps=100 --adam_weight_decay=3e-2",
                "--adam_epsilon=1e-10 --vae_mini_batch=1 --max_grad_norm=0.05 --gradient_checkpointing",
                "--mixed_precision=bf16 --enable_bucket --uniform_sampling --trainable_modules control",
                "--transformer_path=models/Personalized_Model/Qwen-Image-2512-Fun-Controlnet-Union.safetensors",
                f"--output_dir={quoted(plan.folder / 'output')}",
            ]
        )
