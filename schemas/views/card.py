"""The dataset card: README.md with one Hugging Face config for each finished table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..conditions import CONDITIONS
from ..dataset import Dataset
from ..files.documents import plain
from ..fingerprint import fingerprint
from ..index import TableState
from ..provenance import IngestRecord
from ..segments import DatasetRecord
from ..tables import BASE_TABLES, IMAGES, SOURCES, TABLES, WITHOUT_CONDITION

CARD = "README.md"
INDEX_WORDS = "sha256 of the index"
STATED = re.compile(rf"^  description: {INDEX_WORDS} ([0-9a-f]{{64}})$", re.MULTILINE)

FOLDER = "path/to/this/folder"  # as the examples call it
READING = """
```python
from datasets import load_dataset
images = load_dataset("path/to/this/folder", "images", split="train")
```

DuckDB joins two tables by position, and the keys prove it:

```sql
SELECT i.key, i.image, c.*
FROM read_parquet('images/*/*.parquet') i POSITIONAL JOIN read_parquet('{example}/*/*.parquet') c
WHERE i.key = c.key;
```

`caption` is null where a picture has none, and a map, with `reason` and `error`, where it could not be made. Most
training scripts, and torch's collate, stop at a null. The rows that have both:

```python
maps = load_dataset("path/to/this/folder", "{example}", split="train")
taken = [row for row, said in enumerate(zip(images["caption"], maps["reason"])) if said[0] and not said[1]]
images, maps = images.select(taken), maps.select(taken)
```
"""

DEEP = """
Maps of {tables} have 16 bits. Pillow's `convert("RGB")`, which diffusers and others call, clips them at 255: nearly all
of such a map turns white. At 8 bits, as RGB:

```python
import numpy as np
from PIL import Image
row = load_dataset("path/to/this/folder", "{example}", split="train")[0]
rgb = Image.fromarray((np.asarray(row["map"]) >> 8).astype(np.uint8)).convert("RGB")
```
"""


def write(dataset: Dataset) -> None:
    """Write the card, if it says something new: the tables that are complete and not stale.

    Whoever finishes a table, or drops one, has it written.
    """
    states = [dataset.state(table) for table in dataset.tables() if table != SOURCES]
    text = dataset_card(dataset.config, [state for state in states if state.status == "complete"]).encode()
    if not dataset.storage.exists(CARD) or dataset.storage.read(CARD) != text:
        dataset.storage.write(CARD, text)


def _captions(tables: Sequence[TableState]) -> list[str]:
    """How many pictures have a caption."""
    images = next((state for state in tables if state.table == IMAGES), None)
    if images is None or images.index is None:
        return []
    return [f"{images.index.captions.given} of {images.rows} pictures have a caption in `images`."]


@dataclass(frozen=True)
class HubConfig:
    """A config of a card: what `load_dataset` and the Hub's viewer offer by ``name``.

    Args:
        name: of the config.
        description: has a digest of what is behind ``path``; see :func:`hub_configs`.
        path: pattern of its files.
        rows, bytes: of its files.
        is_default: whether it is what is read where no config is named.
    """

    name: str
    description: str
    path: str
    rows: int
    bytes: int
    is_default: bool = False


@dataclass(frozen=True)
class CardAdditions:
    """What a card has beside its tables, where a dataset is published.

    Args:
        configs: before those of the tables.
        front: lines of YAML.
        text: after the list of tables, Markdown.
        address: what `load_dataset` takes in the examples.
    """

    configs: tuple[HubConfig, ...] = ()
    front: tuple[str, ...] = ()
    text: str = ""
    address: str = FOLDER


def dataset_card(config: DatasetRecord, tables: Sequence[TableState], added: CardAdditions | None = None) -> str:
    """The text of README.md. A table that is not in ``tables``, or has no rows, is not offered to readers."""
    added = added or CardAdditions()
    offered = [state for state in tables if state.rows]
    ingest = config.ingest
    lines = [
        "---",
        *hub_configs([*added.configs, *_configs(offered, is_default=not added.configs)]),
        *added.front,
        *("task_categories:", "- text-to-image", "tags:", "- controlnet", "---"),
        *("", "# A ControlNet dataset", ""),
        f"Made by ControlMill: {_sizes(ingest)}, one table a folder.",
        "A condition has the rows of `images` in the same order, shard by shard; `key` says so. What could not be made",
        "is null in its row, with the reason.",
        *_captions(tables),
        *("", "| table | rows | refused | what it is |", "|---|---|---|---|"),
    ]
    for state in tables:
        refused = 0 if state.table in BASE_TABLES else sum(state.reasons.values())
        lines.append(f"| {state.table} | {state.rows} | {refused} | {_summary(state)} |")
    maps = [state for state in offered if state.table not in WITHOUT_CONDITION]
    deep = [state.table for state in maps if state.index and state.index.provenance.kind == "gray16"]
    text = READING.format(example=maps[0].table if maps else "CONDITION")
    if deep:
        text += DEEP.format(tables=", ".join(f"`{table}`" for table in deep), example=deep[0])
    more = f"\n{added.text}" if added.text else ""
    return "\n".join(lines) + "\n" + more + text.replace(FOLDER, added.address)


def _sizes(ingest: IngestRecord) -> str:
    if ingest.fit == "none":
        return "pictures of their own sizes"
    return f"pictures fitted to {ingest.resolution} pixels ({ingest.fit})"


def _summary(state: TableState) -> str:
    """What a table is, and of a condition's what made it."""
    made = state.index.provenance if state.index else None
    if made is None or not made.is_condition:
        return TABLES[state.table].summary
    annotator = made.made_by
    how = "imported" if annotator.is_from_files else f"{annotator.condition}={annotator.variant}"
    known = CONDITIONS.get(annotator.condition)
    return f"{known.summary}: {how}" if known else how


def stated_indexes(card: str) -> set[str]:
    """Fingerprints of the tables that a card was written for."""
    return set(STATED.findall(card))


def _configs(tables: Sequence[TableState], is_default: bool) -> list[HubConfig]:
    return [
        HubConfig(
            state.table,
            f"{INDEX_WORDS} {fingerprint(plain(state.index))}",
            f"{state.table}/*/*.parquet",
            state.rows,
            state.bytes,
            is_default and state.table == IMAGES,
        )
        for state in tables
    ]


def hub_configs(offered: Sequence[HubConfig]) -> list[str]:
    """How `datasets` and the Hub read each config: lines of a card's YAML.

    `datasets` keeps what it has read by the text of a config, not by the files behind it: without the fingerprint,
    another dataset in a folder of the same name, or a table that was redone, would be read as the one before. A number
    of rows that is not the files' is an error there.
    """
    configs, infos = ["configs:"], ["dataset_info:"]
    for config in offered:
        configs += [
            f"- config_name: {config.name}",
            *(["  default: true"] if config.is_default else []),
            f"  description: {config.description}",
            "  data_files:",
            "  - split: train",
            f"    path: {config.path}",
        ]
        infos += [
            f"- config_name: {config.name}",
            "  splits:",
            "  - name: train",
            f"    num_bytes: {config.bytes}",
            f"    num_examples: {config.rows}",
            f"  download_size: {config.bytes}",
            f"  dataset_size: {config.bytes}",
        ]
    return [*configs, *infos] if offered else []
