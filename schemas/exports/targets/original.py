"""The paper's own code.

lllyasviel/ControlNet: tutorial_dataset.py (``./training/fill50k/prompt.json``, a JSON object a line: source, target,
prompt), docs/train.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ..folder import Record
from ..plan import Plan
from .files import TrainerTarget, quoted, write_json_lines


class Original(TrainerTarget):
    """``prompt.json``, ``source/…`` (maps) and ``target/…`` (pictures)."""

    summary: ClassVar[str] = "lllyasviel's ControlNet: source, target, prompt.json"
    holds_several: ClassVar[bool] = False
    images: ClassVar[str] = "target"
    maps: ClassVar[str] = "source"

    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """See :meth:`TrainerTarget.configure`."""
        lines = (
            {"source": record.maps[plan.tables[0]], "target": record.image, "prompt": record.caption}
            for record in records
        )
        write_json_lines(folder / "prompt.json", lines)

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        return f"ln -sfnT {quoted(plan.folder)} training/fill50k && python tutorial_train.py"
