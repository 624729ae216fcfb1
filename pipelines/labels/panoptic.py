"""Panoptic segmentation in COCO's form (Kirillov et al. 2019): PNGs of segments, and a JSON that says their classes.

A pixel's segment is R + 256 G + 65536 B, 0 is none; ``segments_info`` of the picture's annotation has its category.
github.com/cocodataset/panopticapi.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from controlmill.schemas.conditions import Condition
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import open_picture
from controlmill.schemas.images.pixels import GATE
from controlmill.schemas.maps.labels import VOID, LabelSet
from controlmill.schemas.maps.meaning import Plane, Reading

from ..corpora.files import read_capped
from ..corpora.folder import FolderCorpus
from ..engine.faults import JobFault
from .coco import find_picture, id_of, index_of, numbers_of, read_elements, text_of
from .index import Label, LabelIndex, files_below, key_of
from .source import MapSource, Parts


@dataclass(frozen=True)
class CocoPanoptic(MapSource):
    """``place`` is the JSON; the PNGs are in the folder of its name, without ``.json``. Stuff and things alike."""

    @classmethod
    def at(cls, place: str, condition: Condition) -> CocoPanoptic:
        """The source of a file, with the classes that it lists.

        Raises:
            MillError: it cannot be read, lists no classes, or has no folder of PNGs beside it.
        """
        folder = os.path.splitext(place)[0]
        for _, annotation in read_elements(place, ("annotations",)):
            if "segments_info" not in annotation:
                raise MillError(f"{place}: its annotations have no segments_info: it is not a panoptic file")
            break
        if not os.path.isdir(folder):
            raise MillError(f"{place}: its PNGs belong into the folder {folder}: unpack {os.path.basename(folder)}.zip")
        return cls(place, condition, Reading("labels", labels=classes_in(place)))

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        return {**super().made_by(), "params": {"layout": "panoptic"}}

    def open(self) -> PanopticFound:
        """Read the JSON."""
        return PanopticFound(index_of(self.place, _note), FolderCorpus(os.path.splitext(self.place)[0]))

    def messages(self) -> Iterator[str]:
        """See :meth:`LabelSource.messages`."""
        yield f"{self.condition.table}: panoptic segmentation, {self.reading.described()}, from {self.place}"

    def plane(self, parts: Parts, limits: Limits) -> Plane:
        """See :meth:`MapSource.plane`."""
        data, annotation = parts
        opened = open_picture(data, limits)
        with GATE.hold(opened.memory):
            picture = opened.decode()
            if picture.mode != "RGB" or picture.format == "JPEG":
                raise Refused("wrong_kind", f"segments are RGB of 8 bits, not {picture.mode}")
            segments = np.asarray(picture).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
        category_of: dict[str, int] = json.loads(annotation)["categories"]
        assert self.reading.labels is not None
        class_of = {value: number for number, values in enumerate(self.reading.labels.ids) for value in values}
        found, where = np.unique(segments, return_inverse=True)
        classes = np.full(len(found), VOID, np.uint8)
        for number, segment in enumerate(found.tolist()):
            if segment:
                category = category_of.get(str(segment))
                if category not in class_of:
                    what = "is not in the JSON" if category is None else f"has category {category}, which is not listed"
                    raise Refused("wrong_kind", f"segment {segment} {what}")
                classes[number] = class_of[category]
        return Plane(Image.fromarray(classes[where].reshape(segments.shape)))


@dataclass(frozen=True)
class PanopticFound:
    """The labels of a file; see :class:`source.Labels`."""

    index: LabelIndex
    folder: FolderCorpus

    def find(self, picture: str) -> Label:
        """The label of a picture."""
        return find_picture(self.index, picture)

    def read(self, picture: str, max_bytes: int) -> Parts:
        """(the PNG, what the JSON says of it); see :meth:`source.Labels.read`."""
        notes = self.index.notes(self.find(picture).id)
        if len(notes) != 1:
            raise Refused("missing" if not notes else "ambiguous", f"{len(notes)} annotations of the picture")
        path = json.loads(notes[0])["file_name"]
        try:
            return read_capped(self.folder.path(path), max_bytes), notes[0].encode()
        except OSError as error:
            fault = self.folder.explain(error)  # folders in it are the JSON's word, and may never have been there
            if isinstance(fault, JobFault):
                raise fault from error
            raise Refused(fault.reason, f"{path}: {fault.error}") from error


def _note(annotation: dict[str, Any]) -> str:
    """Its file, and the category of each segment."""
    segments = annotation.get("segments_info")
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise ValueError("no segments_info: this is not a panoptic file")
    categories = {id_of(segment, "id"): int(_category(segment)) for segment in segments}
    return json.dumps({"file_name": text_of(annotation, "file_name"), "categories": categories}, sort_keys=True)


def _category(segment: dict[str, Any]) -> float:
    return numbers_of([segment.get("category_id")], 1, "category_id")[0]


def classes_in(place: str) -> LabelSet:
    """The classes that a file lists, in its order, with its colours where all have one.

    Raises:
        MillError: none, too many, or two of one name or id.
    """
    categories = [element for _, element in read_elements(place, ("categories",))]
    try:
        names = tuple(text_of(category, "name") for category in categories)
        ids = tuple((_class_id(category),) for category in categories)
        colours = tuple(_colour(category["color"]) for category in categories if "color" in category)
        colours = colours if len(colours) == len(categories) else ()
        found = LabelSet("panoptic", names, ids, others_void=True, colours=colours)
        found.check()
    except ValueError as error:
        raise MillError(f"{place}, categories: {error}") from error
    return found


def _class_id(category: dict[str, Any]) -> int:
    value = category.get("id")
    if not isinstance(value, int) or not 0 <= value < 1 << 16:
        raise ValueError("id is no number from 0 to 65535")
    return value


def _colour(values: Any) -> str:
    red, green, blue = (int(value) for value in numbers_of(values, 3, "color"))
    if not all(0 <= value < 256 for value in (red, green, blue)):
        raise ValueError("color is no list of 3 numbers from 0 to 255")
    return f"{red:02x}{green:02x}{blue:02x}"


def check_not_panoptic(folder: str, label: str) -> None:
    """Panoptic PNGs have the names of COCO-Stuff's, and are RGB: the first label of the pattern ``label`` tells.

    Raises:
        MillError: the folder is one of panoptic PNGs, which say nothing without their JSON.
    """
    name, limits = os.path.basename(folder), Limits(min_side=1)
    path = next((path for path in files_below(folder) if key_of(label, f"{name}/{path}") is not None), None)
    if path is None:
        return
    try:
        mode = open_picture(read_capped(os.path.join(folder, path), limits.max_bytes), limits).image.mode
    except (OSError, Refused):  # it will be a null that says why
        return
    if mode == "RGB":
        raise MillError(
            f"{folder}: {path} is RGB, as COCO's panoptic PNGs are, whose classes are in a JSON: name that instead, as "
            f"in panoptic_val2017.json, which has its PNGs in the folder panoptic_val2017 beside it"
        )
