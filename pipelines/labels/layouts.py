"""The layouts that are known, which one a folder has, and the label source of what a user asks for.

A new layout of files is a row of ``LAYOUTS``; one that is in another kind of file has a module and a row of ``MAKERS``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice

from controlmill.schemas.conditions import CONDITIONS, NAME, NAME_RULE, Condition, imported
from controlmill.schemas.errors import MillError
from controlmill.schemas.maps.frames import Frame
from controlmill.schemas.maps.label_files import named_set
from controlmill.schemas.maps.meaning import Reading
from controlmill.schemas.maps.vectors import SIGNS
from controlmill.schemas.tables import CAPTIONS, RESERVED

from .captions import Captions
from .depth import NyuLabelled, decode_diode, decode_hypersim
from .edges import BsdsEdges
from .folder import FolderMaps
from .index import files_below, key_of
from .layout import Layout
from .normals import OWN_FRAMES, FolderNormals
from .options import KINDS, LabelOptions
from .panoptic import CocoPanoptic, check_not_panoptic
from .pose import CocoKeypoints
from .source import LabelSource

LOOKED_AT = 50_000  # files of a folder, to find out its layout
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            *("ade20k", "segmentation", "ADE20K SceneParse150 (annotations/*.png)"),
            r"(ADE_(?:train|val|test)_\d{8})\.png",
            r"(ADE_\w+_\d{8})\.\w+",
            label_set="ade20k-150",
        ),
        Layout(
            *("ade20k-full", "segmentation", "full ADE20K (*_seg.png, R / 10 * 256 + G), its 150 classes"),
            r"(ADE_\w+?_\d{8})_seg\.png",
            r"(ADE_\w+_\d{8})\.\w+",
            label_set="ade20k-full",
        ),
        Layout(
            *("cityscapes", "segmentation", "Cityscapes (*_labelIds.png), the 19 classes that are evaluated"),
            r"(\w+_\d{6}_\d{6})_gt(?:Fine|Coarse)_labelIds\.png",
            r"(\w+_\d{6}_\d{6})(?:_leftImg8bit)?\.\w+",
            label_set="cityscapes",
            table="cityscapes",
        ),
        Layout(
            *("cityscapes-trainids", "segmentation", "Cityscapes (*_labelTrainIds.png)"),
            r"(\w+_\d{6}_\d{6})_gt(?:Fine|Coarse)_labelTrainIds\.png",
            r"(\w+_\d{6}_\d{6})(?:_leftImg8bit)?\.\w+",
            label_set="cityscapes-trainids",
            table="cityscapes",
        ),
        Layout(
            *("bdd100k", "segmentation", "BDD100K (masks, or *_train_id.png), the classes of Cityscapes"),
            r"([0-9a-f]{8}-[0-9a-f]{8})(?:_train_id)?\.png",
            r"([0-9a-f]{8}-[0-9a-f]{8})\.\w+",
            label_set="cityscapes-trainids",
            table="bdd100k",
        ),
        Layout(
            *("voc", "segmentation", "PASCAL VOC (SegmentationClass/*.png)"),
            r"SegmentationClass(?:Aug)?/(\d{4}_\d{6}|\d{6})\.png",
            r"(\d{4}_\d{6}|\d{6})\.\w+",
            label_set="voc",
            table="voc",
        ),
        Layout(
            *(
                "coco-stuff-pixelmaps",
                "segmentation",
                "COCO-Stuff challenge of 2017 (stuff_*_pixelmaps), stuff only",
            ),
            r"stuff_\w+_pixelmaps/(?:.*/)?(\d{12})\.png",
            r"(?:COCO_[a-z]+\d{4}_)?(\d{12})\.\w+",
            label_set="coco-stuff-pixelmaps",
            table="coco_stuff_pixelmaps",
        ),
        Layout(
            *("coco-stuff", "segmentation", "COCO-Stuff 164K (stuffthingmaps/*.png)"),
            r"(?:COCO_[a-z]+\d{4}_)?(\d{12})\.png",
            r"(?:COCO_[a-z]+\d{4}_)?(\d{12})\.\w+",
            label_set="coco-stuff",
            table="coco_stuff",
        ),
        Layout("panoptic", "segmentation", "panoptic segmentation (panoptic_*.json and its PNGs)", is_file=True),
        Layout("coco-keypoints", "pose", "COCO's key points of people (person_keypoints_*.json)", is_file=True),
        Layout(
            *("diode", "depth", "DIODE (*_depth.npy with *_depth_mask.npy, metres)"),
            r"([^/]+)_depth\.npy",
            also=(("_depth.npy", "_depth_mask.npy"),),
            decode=decode_diode,
        ),
        Layout(
            *("kitti", "depth", "KITTI (proj_depth/groundtruth, 16 bits, 256 to the metre, 0 unknown)"),
            r"([^/]+_sync)/proj_depth/groundtruth/(image_0[23])/(\d{10})\.png",
            r"([^/]+_sync)/(image_0[23])/data/(\d{10})\.\w+",
            scale=256,
            invalid=(0,),
        ),
        Layout(
            *("kitti-selection", "depth", "KITTI (val_selection_cropped/groundtruth_depth), as kitti"),
            r"([^/]+_sync)_groundtruth_depth_(\d{10})_(image_0[23])\.png",
            r"([^/]+_sync)_image_(\d{10})_(image_0[23])\.\w+",
            scale=256,
            invalid=(0,),
        ),
        Layout(
            *("7scenes", "depth", "7-Scenes (frame-*.depth.png, millimetres, 0 and 65535 unknown)"),
            r"(frame-\d{6})\.depth\.png",
            r"(frame-\d{6})\.color\.\w+",
            scale=1000,
            invalid=(0, 65535),
        ),
        Layout(
            *("nyu", "depth", "NYU Depth v2 as PNG (sync_depth_*.png beside rgb_*.jpg, millimetres, 0 unknown)"),
            r"(?:sync_)?depth_(\d+)\.png",
            r"rgb_(\d+)\.\w+",
            scale=1000,
            invalid=(0,),
        ),
        Layout(
            *("hypersim", "depth", "Hypersim (frame.*.depth_meters.hdf5, distances made planar)"),
            r"scene_(cam_\d+)_geometry_hdf5/frame\.(\d{4})\.depth_meters\.hdf5",
            r"scene_(cam_\d+)_final_\w+/frame\.(\d{4})\.[\w.]+",
            decode=decode_hypersim,
        ),
        Layout("nyu-labelled", "depth", "NYU Depth v2, nyu_depth_v2_labeled.mat", r"[^/]+\.mat", is_file=True),
        Layout(
            *("hypersim-normals", "normals", "Hypersim (frame.*.normal_cam.hdf5, frame opengl)"),
            r"scene_(cam_\d+)_geometry_hdf5/frame\.(\d{4})\.normal_cam\.hdf5",
            r"scene_(cam_\d+)_final_\w+/frame\.(\d{4})\.[\w.]+",
        ),
        Layout(
            *("diode-normals", "normals", "DIODE (*_normal.npy)"),
            r"([^/]+)_normal\.npy",
        ),
        Layout(
            *("normals-png", "normals", "PNG (*_normal.png), 0 to 255 for -1 to 1, black is unknown"),
            r"([^/]+?)_normals?\.png",
            r"([^/]+?)(?:_img|_rgb)?\.\w+",
        ),
        Layout("bsds", "edges", "BSDS500 (groundTruth/*.mat)", r"(\d+)\.mat", r"(\d+)\.\w+"),
        Layout("coco-captions", "captions", "COCO's captions (captions_*.json)", r"[^/]+\.json", is_file=True),
        Layout(
            *("caption-list", "captions", "a list with a line for each picture (.jsonl, .csv, .tsv, .parquet)"),
            r"[^/]+\.(?:jsonl|csv|tsv|parquet)(?:\.gz)?",
            is_file=True,
        ),
    )
}
Maker = Callable[[str, LabelOptions], LabelSource]
MAKERS: dict[str, Maker] = {
    "panoptic": lambda place, options: CocoPanoptic.at(place, table_of(imported("panoptic", "labels"), options)),
    "nyu-labelled": lambda place, options: NyuLabelled(
        place, table_of(CONDITIONS["depth"], options), Reading("gray16", meaning="metric")
    ),
    "coco-captions": lambda place, options: _captions(place, options, "coco-captions"),
    "caption-list": lambda place, options: _captions(place, options, "caption-list"),
    "coco-keypoints": lambda place, options: CocoKeypoints.at(place, table_of(CONDITIONS["pose"], options)),
}


def find_source(kind: str, place: str, options: LabelOptions) -> LabelSource:
    """The labels of a kind at a place.

    Raises:
        MillError: there is no such kind, place or layout, or none that the place has; or an option is for another kind.
    """
    if kind not in KINDS:
        raise MillError(f"{kind}: labels are {', '.join(KINDS)}")
    options.check_kind(kind)
    if not os.path.exists(place):
        raise MillError(f"{place}: no such file or folder")
    layout = find_layout(kind, place, options.layout)
    place = os.path.abspath(place)
    if layout.name == "coco-stuff":
        check_not_panoptic(place, layout.label)
    if layout.name in MAKERS:
        return MAKERS[layout.name](place, options)
    own = imported(layout.table, CONDITIONS[kind].kind) if layout.table else CONDITIONS.get(kind)
    if kind == "edges":
        soft = options.annotators == "mean"
        condition = table_of(imported("edges", "gray8" if soft else "binary"), options)
        return BsdsEdges(place, condition, Reading(condition.kind), layout=layout, annotators=options.annotators)
    assert own is not None
    condition = table_of(own, options)
    if kind == "normals":
        return FolderNormals(place, condition, layout, _frame_of(layout, options))
    return FolderMaps(place, condition, layout=layout, reading=reading_of(layout, condition))


def _frame_of(layout: Layout, options: LabelOptions) -> Frame:
    """The frame of normals.

    Raises:
        MillError: it is not said, or said to be another than the layout's.
    """
    known = OWN_FRAMES.get(layout.name)
    frame = options.frame or known
    if frame is None:
        raise MillError(f"--frame: say in which frame the normals are, {', '.join(SIGNS)}: the files do not tell")
    if known and frame != known:
        raise MillError(f"--frame {frame}: normals of {layout.name} are {known}")
    return frame


def _captions(place: str, options: LabelOptions, layout: str) -> LabelSource:
    if options.table not in ("", CAPTIONS):
        raise MillError(f"--table {options.table}: captions go to the table {CAPTIONS}")
    columns = (options.picture_column, options.caption_column)
    return Captions(place, CONDITIONS["caption"], layout, options.pick, *columns)


def reading_of(layout: Layout, condition: Condition) -> Reading:
    """How the files of a layout are read."""
    labels = named_set(layout.label_set) if layout.label_set else None
    if layout.kind == "depth":
        return Reading(condition.kind, meaning="metric", scale=layout.scale, invalid=layout.invalid)
    return Reading(condition.kind, labels=labels)


def table_of(condition: Condition, options: LabelOptions) -> Condition:
    """The condition in the table that was asked for.

    Raises:
        MillError: a table cannot have that name.
    """
    name = options.table
    if not name or name == condition.table:
        return condition
    if not NAME.fullmatch(name) or name in RESERVED:
        raise MillError(f"--table {name}: a name is {NAME_RULE}, and not another condition's")
    if condition.name in CONDITIONS:
        return condition.in_table(name)
    return imported(name, condition.kind)


def find_layout(kind: str, place: str, name: str = "") -> Layout:
    """The layout of a place: the one that is named, else the first of which it has a file.

    Raises:
        MillError: there is no such layout, or it has none of these.
    """
    known = [layout for layout in LAYOUTS.values() if layout.kind == kind]
    if name:
        found = [layout for layout in known if layout.name == name]
        if not found:
            raise MillError(f"--layout {name}: of {kind} there are {', '.join(layout.name for layout in known)}")
        if found[0].is_file == os.path.isdir(place):
            raise MillError(f"{place}: {name} is in a {'file' if found[0].is_file else 'folder'}")
        return found[0]
    if not os.path.isdir(place):
        return _of_file(kind, place, [layout for layout in known if layout.is_file])
    folders = [layout for layout in known if not layout.is_file]
    own_name, met = os.path.basename(os.path.abspath(place)), set[str]()
    for path in islice(files_below(place), LOOKED_AT):
        met.update(layout.name for layout in folders if key_of(layout.label, f"{own_name}/{path}") is not None)
        if folders and folders[0].name in met:
            break
    for layout in folders:
        if layout.name in met:
            return layout
    names = "\n  ".join(f"{layout.name}: {layout.summary}" for layout in known)
    raise MillError(f"{place}: no labels of a known layout in it. Of {kind} there are\n  {names}")


def _of_file(kind: str, place: str, layouts: list[Layout]) -> Layout:
    ending = os.path.splitext(place)[1].lower()
    for layout in layouts:
        if key_of(layout.label or r"(.*)\.json", os.path.basename(place)) is not None:
            return layout
    raise MillError(f"{place}: {kind} is not read from a file that ends in {ending or 'nothing'}")
