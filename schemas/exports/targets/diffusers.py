"""Parquet with the columns that the ControlNet scripts of diffusers take, and other readers of the Hub's convention.

huggingface/diffusers: examples/controlnet/train_controlnet.py (``make_train_dataset``, ``--image_column`` …): it calls
``convert("RGB")`` on both pictures and stops at a null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from ...files.shardfile import GROUP_ROWS, ShardWriter
from ...tables import IMAGE
from ...views.card import HubConfig, hub_configs
from ..folder import Record, State
from ..plan import Plan
from ..samples import Sample
from .files import quoted
from .imagefolder import map_columns
from .target import PART_BYTES, Written

CARD = "README.md"


class Diffusers:
    """``data/train-00000.parquet``…: image, conditioning_image, text, key; a dataset card names them."""

    summary: ClassVar[str] = "diffusers' train_controlnet*.py: Parquet with image, conditioning_image, text"
    holds_several: ClassVar[bool] = True
    part_bytes: ClassVar[int] = PART_BYTES
    last: ClassVar[str] = CARD
    is_movable: ClassVar[bool] = True

    def write(self, folder: Path, part: int, samples: Iterable[Sample], plan: Plan) -> Written:
        """See :meth:`Target.write`."""
        path = folder / "data" / f"train-{part:05d}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows = write_pairs(path, samples, plan)
        return Written(rows, path.stat().st_size)

    def finish(self, folder: Path, records: Iterator[Record], plan: Plan, state: State, size: int) -> None:
        """See :meth:`Target.finish`."""
        config = HubConfig("default", f"sha256 of the tables {plan.sha256}", "data/*.parquet", state.rows, size)
        lines = [
            "---",
            *hub_configs([config]),
            "tags:",
            "- controlnet",
            "---",
            "",
            "# Pairs for ControlNet training",
            "",
        ]
        columns = ", ".join(f"`{column}`" for column in map_columns(plan).values())
        lines += [f"`image`, {columns}, `text`; made by ControlMill from {', '.join(plan.tables)}."]
        (folder / CARD).write_text("\n".join(lines) + "\n", "utf-8")

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        column = next(iter(map_columns(plan).values()))
        words = [
            "accelerate launch train_controlnet.py",
            "--pretrained_model_name_or_path stable-diffusion-v1-5/stable-diffusion-v1-5",
            f"--train_data_dir {quoted(plan.folder)}",
            *([f"--conditioning_image_column {column}"] if column != "conditioning_image" else []),
            f"--resolution {plan.resolution} --output_dir {plan.name}",
        ]
        return " ".join(words)


def write_pairs(path: Path, samples: Iterable[Sample], plan: Plan) -> int:
    """Write a Parquet file of image, maps, text and key, in row groups as a dataset has them.

    Returns:
        Its rows.
    """
    columns = map_columns(plan)
    schema = pa.schema(
        [
            ("image", IMAGE),
            *((column, IMAGE) for column in columns.values()),
            ("text", pa.string()),
            ("key", pa.string()),
        ]
    )
    rows = 0
    with ShardWriter(path, schema, {"pairs": plan.sha256}) as writer:
        left = iter(samples)
        while group := [_row(sample, columns) for sample in islice(left, GROUP_ROWS)]:
            writer.write_group(group)
            rows += len(group)
    return rows


def _row(sample: Sample, columns: dict[str, str]) -> dict[str, object]:
    maps = {columns[table]: {"bytes": data, "path": f"{sample.name}.png"} for table, data in sample.maps.items()}
    image = {"bytes": sample.image, "path": f"{sample.name}.{sample.ending}"}
    return {"image": image, **maps, "text": sample.caption, "key": sample.key}
