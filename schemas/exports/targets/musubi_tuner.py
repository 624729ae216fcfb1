"""kohya's musubi-tuner.

kohya-ss/musubi-tuner: docs/dataset_config.md (metadata JSONL: ``image_path``, ``control_path``, ``control_path_0``…),
docs/flux_2.md (the three commands). The JSONL names each pair, where a ``control_directory`` would find maps by the
beginning of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..folder import Record
from ..plan import Plan
from .files import TrainerTarget, quoted, toml, write_json_lines


class MusubiTuner(TrainerTarget):
    """``metadata.jsonl`` with absolute paths, and ``dataset.toml``."""

    summary: ClassVar[str] = "musubi-tuner: files, metadata.jsonl, dataset.toml"
    holds_several: ClassVar[bool] = True

    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """See :meth:`TrainerTarget.configure`."""
        write_json_lines(folder / "metadata.jsonl", (_line(record, plan) for record in records))
        lines = [
            "[general]",
            f"resolution = [{plan.resolution}, {plan.resolution}]",
            "batch_size = 1",
            f"enable_bucket = {toml(not plan.is_square)}",
            "bucket_no_upscale = false",
            "",
            "[[datasets]]",
            f"image_jsonl_file = {toml(plan.folder / 'metadata.jsonl')}",
            f"cache_directory = {toml(plan.folder / 'cache')}",
        ]
        (folder / "dataset.toml").write_text("\n".join(lines) + "\n", "utf-8")

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        config = quoted(plan.folder / "dataset.toml")
        run = "src/musubi_tuner/flux_2"
        return "\n".join(
            [
                'DIT=path/to/flux2-dev.safetensors VAE=path/to/ae.safetensors TEXT_ENCODER="path/to/text_encoder"',
                f"python {run}_cache_latents.py --dataset_config {config} --vae $VAE --model_version dev",
                f"python {run}_cache_text_encoder_outputs.py --dataset_config {config} --text_encoder $TEXT_ENCODER "
                "--batch_size 1 --model_version dev",
                f"accelerate launch --mixed_precision bf16 {run}_train_network.py --model_version dev --dit $DIT "
                f"--vae $VAE --text_encoder $TEXT_ENCODER --dataset_config {config} --sdpa --mixed_precision bf16 "
                "--timestep_sampling flux2_shift --weighting_scheme none --optimizer_type adamw8bit "
                "--learning_rate 1e-4 --gradient_checkpointing --network_module networks.lora_flux_2 "
                f"--network_dim 32 --max_train_epochs 16 --save_every_n_epochs 1 "
                f"--output_dir {quoted(plan.folder / 'output')} --output_name {quoted(plan.name)}",
            ]
        )


def _line(record: Record, plan: Plan) -> dict[str, Any]:
    paths = [str(plan.folder / name) for name in record.maps.values()]
    names = ["control_path"] if len(paths) == 1 else [f"control_path_{number}" for number in range(len(paths))]
    maps = dict(zip(names, paths, strict=True))
    return {"image_path": str(plan.folder / record.image), **maps, "caption": record.caption}
