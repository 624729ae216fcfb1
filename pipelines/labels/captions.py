"""Captions of a dataset: COCO's captions_*.json, and lists with a line a picture, as LAION and DataComp have them.

Where a picture has several captions, one is taken by a stated rule: the first in the order of their ids or lines, the
longest, or one that is drawn by the row's key, the same in every run.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.fingerprint import row_seed
from controlmill.schemas.images.formats import Limits

from ..corpora.captions import MAX_BYTES, clean
from ..corpora.columns import Columns
from ..corpora.files import open_regular
from ..corpora.table_layout import check_file
from ..corpora.url_lists import NoUrls, kind_of, read_list
from .coco import find_picture, index_of, picture_key, text_of
from .index import Label, LabelIndex, is_utf8
from .options import Pick
from .source import LabelSource, Parts

VERSION = 2
PICTURE_COLUMNS = ("file_name", "filename", "image_file_name", "image", "target", "path", "key", "uid", "id")
DRAW = "captions"  # what a row's key is drawn for


@dataclass(frozen=True)
class Captions(LabelSource):
    """Captions in one file. ``pick`` is the rule where a picture has several; the columns are those of a list."""

    layout: str
    pick: Pick
    picture_column: str = ""
    caption_column: str = ""

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        params = {"layout": self.layout, "pick": self.pick}
        for name, value in (("picture_column", self.picture_column), ("caption_column", self.caption_column)):
            if value:
                params[name] = value
        return {"condition": self.condition.name, "variant": "files", "version": VERSION, "params": params}

    def open(self) -> CaptionsFound:
        """Read the file."""
        if self.layout == "coco-captions":
            return CaptionsFound(index_of(self.place, lambda annotation: text_of(annotation, "caption")))
        return CaptionsFound(_listed(self.place, self.picture_column, self.caption_column))

    def messages(self) -> Iterator[str]:
        """See :meth:`LabelSource.messages`."""
        yield f"{self.condition.table}: from {self.place}; of several captions {PICKS[self.pick]}"

    def row_of(self, parts: Parts, row: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """See :meth:`LabelSource.row_of`.

        Raises:
            Refused: missing, where the picture has no caption that says something; bad_caption.
        """
        try:
            texts = [text for caption in json.loads(parts[0]) if (text := clean(caption))]
        except ValueError as error:
            raise Refused("bad_caption", str(error)) from error
        if not texts:
            raise Refused("missing", "no caption of the picture says anything")
        if self.pick == "longest":
            text = max(texts, key=len)
        else:
            text = texts[row_seed(row["key"], DRAW) % len(texts) if self.pick == "drawn" else 0]
        if len(text) > MAX_BYTES:
            raise Refused("bad_caption", f"a caption of more than {MAX_BYTES} characters")
        return {"caption": text}


PICKS: dict[Pick, str] = {
    "first": "the first",
    "longest": "the longest",
    "drawn": "one that is drawn by the row's key",
}


@dataclass(frozen=True)
class CaptionsFound:
    """The captions of a file; see :class:`source.Labels`."""

    index: LabelIndex

    def find(self, picture: str) -> Label:
        """The entry of a picture, by the end of its name."""
        return find_picture(self.index, picture)

    def read(self, picture: str, max_bytes: int) -> Parts:
        """Its captions, in order; see :meth:`source.Labels.read`."""
        return (json.dumps(self.index.notes(self.find(picture).id)).encode(),)


def _listed(place: str, picture_column: str, caption_column: str) -> LabelIndex:
    """The lines of a list.

    Raises:
        MillError: it cannot be read, has no column that names pictures, or not the one of captions that was chosen.
    """
    folder, name = os.path.split(os.path.abspath(place))
    if kind_of(name) == ".parquet":
        with LayoutCheck(check_file) as check:
            check(open_storage(folder), name)
    index, numbers = LabelIndex(), itertools.count()
    for column in (picture_column,) if picture_column else PICTURE_COLUMNS:
        try:
            with open_regular(place) as file:
                for entry in read_list(file, name, Columns(image=column, caption=caption_column or None)):
                    if entry.url is not None and is_utf8(entry.url):
                        if not index.has(picture_key(entry.url), entry.url):
                            index.add(picture_key(entry.url), entry.url, entry.url)
                        for caption in entry.captions:
                            index.note(entry.url, next(numbers), caption)
        except OSError as error:
            raise MillError(f"{place} cannot be read: {error.strerror or error}") from error
        except NoUrls:  # it has no such column
            continue
        if index.count():
            return index
    wanted = picture_column or ", ".join(PICTURE_COLUMNS)
    raise MillError(f"{place}: no column {wanted} that names pictures; --picture-column says which does")
