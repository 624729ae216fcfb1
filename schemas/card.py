"""The dataset card: README.md with one Hugging Face config for each finished table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .caches import CACHES
from .conditions import CONDITIONS

if TYPE_CHECKING:
    from .dataset import TableState

SUMMARIES = {
    "images": "the pictures, final: oriented, sRGB, RGB, fitted",
    "rejected": "what ingest refused, and why",
    **{condition.table: condition.summary for condition in CONDITIONS.values()},
    "latents": "for training: moments of a VAE's posterior",
    "embeddings": "for training: captions through a text encoder; null is the empty prompt",
}


def _captions(tables: Sequence[TableState]) -> list[str]:
    """How many pictures have a caption, and what a null means to readers."""
    images = next((state for state in tables if state.table == "images"), None)
    if images is None or images.index is None:
        return []
    given = sum(entry.get("captions", {}).get("given", 0) for entry in images.index["shards"])
    return [
        f"{given} of {images.rows} pictures have a caption in `images`; it is null for the others. Scripts and collate",
        "functions that stop at a null need rows without one, of captions and of maps, left out or filled.",
    ]


def dataset_card(config: Mapping[str, Any], tables: Sequence[TableState]) -> str:
    """The text of README.md. A table that is not in ``tables`` is not offered to readers."""
    lines = ["---"]
    if tables:
        lines.append("configs:")
    for state in tables:
        lines += [
            f"- config_name: {state.table}",
            *(["  default: true"] if state.table == "images" else []),
            "  data_files:",
            "  - split: train",
            f"    path: {state.table}/*/*.parquet",
        ]
    lines += ["task_categories:", "- text-to-image", "tags:", "- controlnet", "---", "", "# A ControlNet dataset", ""]
    ingest = config["ingest"]
    lines += [
        f"Made by ControlMill: pictures fitted to {ingest['resolution']} pixels ({ingest['fit']}), one table a folder.",
        "A condition has the rows of `images` in the same order, shard by shard; `key` says so. What could not be made",
        "is null in its row, with the reason.",
        *_captions(tables),
        "",
        "| table | rows | refused | what it is |",
        "|---|---|---|---|",
    ]
    for state in tables:
        refused = sum(state.reasons.values()) if state.table not in ("images", "rejected") else 0
        lines.append(f"| {state.table} | {state.rows} | {refused} | {SUMMARIES.get(state.table, 'imported')} |")
    conditions = [state.table for state in tables if state.table not in ("images", "rejected", *CACHES)]
    example = conditions[0] if conditions else "CONDITION"
    lines += [
        "",
        "```python",
        "from datasets import load_dataset",
        'images = load_dataset("path/to/this/folder", "images", split="train")',
        "```",
        "",
        "DuckDB joins two tables by position, and the keys prove it:",
        "",
        "```sql",
        "SELECT i.key, i.image, c.*",
        f"FROM read_parquet('images/*/*.parquet') i POSITIONAL JOIN read_parquet('{example}/*/*.parquet') c",
        "WHERE i.key = c.key;",
        "```",
        "",
    ]
    return "\n".join(lines)
