"""Label sets: their files, what is wrong with a user's, and what void looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controlmill.schemas.annotator_records import LabelSetRecord
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.documents import made_of
from controlmill.schemas.maps.label_files import NAMED, find_set, named_set
from controlmill.schemas.maps.labels import VOID, LabelSet, label_palette
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.stored import stored_condition


@pytest.mark.parametrize("name", NAMED)
def test_a_set_maps_its_values_to_its_classes_and_its_colours_too(name: str) -> None:
    found = find_set(name)
    colours = np.frombuffer(found.palette(), np.uint8).reshape(256, 3)
    assert colours[VOID].tolist() == [0, 0, 0]
    if found.encoding == "id":
        values = np.array([several[0] for several in found.ids])
        np.testing.assert_array_equal(found.classes_of(values[None])[0], np.arange(len(values)))
        assert set(found.classes_of(np.array([found.void], int))[0]) <= {VOID}
    if found.colours:
        seen = found.as_stored().classes_of(colours[None, : len(found.classes)])[0]
        np.testing.assert_array_equal(colours[seen], colours[: len(found.classes)])
    assert LabelSet.of(made_of(LabelSetRecord, found.provenance())) == found


def test_facts_of_the_sets() -> None:
    scene, street, coco, voc = (named_set(name) for name in ("ade20k-150", "cityscapes", "coco-stuff", "voc"))
    assert (scene.classes[0], scene.classes[12], scene.classes[149]) == ("wall", "person", "flag")
    assert street.classes_of(np.array([[7, 33, 0, 9, 29]]))[0].tolist() == [0, 18, VOID, VOID, VOID]
    assert (coco.classes[0], coco.classes[181], len(coco.classes)) == ("person", "wood", 182)
    assert voc.classes_of(np.array([[0, 15, 20, 255]]))[0].tolist() == [0, 15, 20, VOID]
    off_white = np.array([[[224, 224, 192], [0, 0, 0], [192, 128, 128]]], np.uint8)
    assert voc.classes_of(off_white)[0].tolist() == [VOID, 0, 15]
    with pytest.raises(Refused, match="value 255"):  # trainIds are no label ids
        street.classes_of(np.array([[7, 255]]))


def test_colours_without_a_palette_are_distinct_and_void_is_black() -> None:
    colours = np.frombuffer(label_palette(), np.uint8).reshape(256, 3)
    assert len(np.unique(colours, axis=0)) == 255
    assert not colours[[0, VOID]].any()
    coco = np.frombuffer(named_set("coco-stuff").palette(), np.uint8).reshape(256, 3)
    assert coco[:182].any(axis=1).all(), "no class is as black as void"


def test_a_set_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "park.toml"
    file.write_text('classes = ["grass", "path"]\nids = [3, [7, 8]]\nvoid = [0]\ncolours = ["#00FF00", "808080"]\n')
    found = find_set(str(file))
    assert found.name == "park"
    assert found.classes_of(np.array([[3, 7, 8, 0]]))[0].tolist() == [0, 1, 1, VOID]
    assert found.palette()[:6] == bytes([0, 255, 0, 128, 128, 128])
    file.write_text('classes = "ade20k-150"\nvoid = "others"\n[ids]\nperson = 1\n"pool table" = [4, 5]\n')
    mapped = find_set(str(file))
    assert mapped.classes_of(np.array([[1, 5, 99]]))[0].tolist() == [12, 56, VOID]
    assert mapped.palette() == named_set("ade20k-150").palette()
    reading = {"label_set": found.provenance()}
    annotator = {"condition": "park", "variant": "imported", "version": 1, "reading": reading}
    made = made_of(Provenance, {"table": "park", "kind": "labels", "annotator": annotator})
    assert stored_condition(made).palette == found.palette(), "its own file is not asked for again"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "classes: a list"),
        ("classes = [", "park.toml"),
        ('classes = ["a", "a"]', "different names"),
        ('classes = ["a"]\nids = [1, 2]', "2 for 1 classes"),
        ('classes = ["a", "b"]\nids = [1, 1]', "1 has two meanings"),
        ('classes = ["a"]\nvoid = [0]', "0 has two meanings"),
        ('classes = ["a"]\nids = [-1]', "-1 is no number"),
        ('classes = ["a"]\ncolours = ["red"]', "'red' is no colour"),
        ('classes = ["a"]\nnames = []', "no key is called names"),
        ('classes = ["a"]\n[ids]\nb = 1', "no class is called b"),
        ('classes = ["a"]\nencoding = "rgb"', "encoding"),
        ('classes = ["a"]\nvoid = 3', "void: a list"),
    ],
)
def test_what_is_wrong_with_a_set_is_said(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "park.toml"
    file.write_text(text)
    with pytest.raises(MillError, match=message):
        find_set(str(file))


def test_a_set_in_a_tables_provenance_that_contradicts_itself_is_a_message() -> None:
    for key, value in {"ids": [[1]], "colours": ["000000"], "classes": []}.items():
        said = {**named_set("voc").provenance(), key: value}
        with pytest.raises(MillError, match="the label set voc of the table is damaged"):
            LabelSet.of(made_of(LabelSetRecord, said))


def test_sets_that_are_not_there() -> None:
    with pytest.raises(MillError, match=r"choose ade20k-150, .*, or a \.toml file"):
        find_set("ade20k")
    with pytest.raises(MillError, match="cannot be read"):
        find_set("nowhere.toml")
