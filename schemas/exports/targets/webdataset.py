"""Tar files in which the files of a row stand together, as webdataset and `datasets` read them.

webdataset/webdataset: docs ("The WebDataset Format"): what stands before a name's first dot is the key of its row.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from ..folder import Record, State
from ..plan import Plan
from ..samples import Sample
from .target import PART_BYTES, Written

BLOCK = tarfile.BLOCKSIZE


class WebDataset:
    """``data/00000.tar``…: NAME.jpg (png, webp), NAME.depth.png, NAME.txt, NAME.json with the row's key and size."""

    summary: ClassVar[str] = "webdataset: tar files"
    holds_several: ClassVar[bool] = True
    part_bytes: ClassVar[int] = PART_BYTES
    last: ClassVar[str] = "data"
    is_movable: ClassVar[bool] = True

    def write(self, folder: Path, part: int, samples: Iterable[Sample], plan: Plan) -> Written:
        """See :meth:`Target.write`."""
        path, rows = folder / "data" / f"{part:05d}.tar", 0
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            for sample in samples:
                rows += 1
                file.writelines(_members(sample))
            file.write(bytes(2 * BLOCK))
        return Written(rows, path.stat().st_size)

    def finish(self, folder: Path, records: Iterator[Record], plan: Plan, state: State, size: int) -> None:
        """See :meth:`Target.finish`."""

    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""
        last = len(plan.parts(self.part_bytes)) - 1
        files = plan.folder / "data" / (f"{{00000..{last:05d}}}.tar" if last else "00000.tar")
        columns = ", ".join(f'"{column}"' for column in ("jpg;png;webp", *(f"{t}.png" for t in plan.tables), "txt"))
        return f'webdataset.WebDataset({str(files)!r}, shardshuffle=False).decode("pilrgb").to_tuple({columns})'


def _members(sample: Sample) -> Iterator[bytes]:
    about = {"key": sample.key, "width": sample.width, "height": sample.height}
    files = {
        sample.ending: sample.image,
        **{f"{table}.png": data for table, data in sample.maps.items()},
        "txt": sample.caption.encode(),
        "json": json.dumps(about).encode(),
    }
    for ending, data in files.items():
        info = tarfile.TarInfo(f"{sample.name}.{ending}")
        info.size, info.mode = len(data), 0o644
        yield info.tobuf(tarfile.USTAR_FORMAT)
        yield data
        yield bytes(-len(data) % BLOCK)
