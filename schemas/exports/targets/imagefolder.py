"""Files and ``metadata.jsonl``, as `datasets` reads them.

huggingface/datasets: docs/source/image_dataset.mdx (``*_file_name`` columns), packaged_modules/folder_based_builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..folder import Record, State
from ..plan import Plan
from .files import FilesTarget, write_json_lines

METADATA = "metadata.jsonl"


class ImageFolder(FilesTarget):
    """The columns are those of :class:`Diffusers`, and the row's key."""

    summary: ClassVar[str] = "datasets' imagefolder: files and metadata.jsonl"
    holds_several: ClassVar[bool] = True
    last: ClassVar[str] = METADATA
    is_movable: ClassVar[bool] = True

    def finish(self, folder: Path, records: Iterator[Record], plan: Plan, state: State, size: int) -> None:
        """See :meth:`Target.finish`."""
        write_json_lines(folder / METADATA, (_line(record, map_columns(plan)) for record in records))

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        return f'datasets.load_dataset("imagefolder", data_dir={str(plan.folder)!r}, split="train")'


def map_columns(plan: Plan) -> dict[str, str]:
    """Table → its column: ``conditioning_image``, as trainers call it; of several, the name of each."""
    return {table: "conditioning_image" if len(plan.tables) == 1 else table for table in plan.tables}


def _line(record: Record, columns: dict[str, str]) -> dict[str, Any]:
    files = {f"{columns[table]}_file_name": name for table, name in record.maps.items()}
    return {"image_file_name": record.image, **files, "text": record.caption, "key": record.key}
