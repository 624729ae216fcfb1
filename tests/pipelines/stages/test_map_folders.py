"""What is imported, and what the options say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlmill.pipelines.options import MapOptions
from controlmill.pipelines.stages.map_folders import MapFolder, messages_of, parse_map_folders
from controlmill.schemas.errors import MillError
from controlmill.schemas.terminal.options import check


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders of three known conditions and two of a user's own, with a map each."""
    for name in ("depth", "segmentation", "normals", "mask", "park"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.PNG").write_bytes(b"")
    return tmp_path


def parsed(folder: Path, *kinds: str, **options: tuple[str, ...]) -> dict[str, MapFolder]:
    return {found.name: found for found in parse_map_folders(MapOptions(folder, kinds, **options))}


def test_a_column_adds_to_the_folders_that_are_known(folder: Path) -> None:
    assert set(parsed(folder, "mask=binary")) == {"depth", "segmentation", "normals", "mask"}
    assert set(parsed(folder, "mask=binary", "park=labels")) == {"depth", "segmentation", "normals", "mask", "park"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["depth=rgb"], "depth is gray16"),
        (["mask"], "kinds are"),
        (["images=rgb"], "not another table's"),
        (["nowhere=rgb"], "no folder nowhere"),
        ([], "--condition-kind mask=KIND"),
        (["caption"], "captions are not imported"),
    ],
)
def test_bad_columns_are_clear_errors(folder: Path, columns: list[str], message: str) -> None:
    with pytest.raises(MillError, match=message):
        parsed(folder, *columns)


def test_a_folder_without_maps_is_said_at_once(folder: Path) -> None:
    (folder / "hed").mkdir()
    with pytest.raises(MillError, match=r"hed: no map in this folder \(it is empty\)"):
        parsed(folder, "mask=binary")
    for number in range(3):
        (folder / "hed" / f"{number}.exr").write_bytes(b"")
    with pytest.raises(MillError, match=r"3 other files: \.exr 3; a map ends in \.png"):
        parsed(folder, "mask=binary")


def test_links_are_followed_and_never_twice(folder: Path) -> None:
    (folder / "depth/inner").mkdir()
    (folder / "depth/inner/up").symlink_to(folder / "depth")
    (folder / "depth/inner/masks").symlink_to(folder / "mask")
    (line,) = messages_of(str(folder), parsed(folder, "mask=binary")["depth"])
    assert line.startswith("depth: 2 maps in ")


def test_what_is_imported_and_what_is_not_is_said(folder: Path) -> None:
    (folder / "depth/b.npy").write_bytes(b"")
    (folder / "normals/b.npy").write_bytes(b"")
    found = parsed(
        folder, "mask=binary", label_set=("ade20k-150",), depth=("metric:1000",), invalid_depth=("0", "65535")
    )
    said = {name: "; ".join(messages_of(str(folder), column)) for name, column in found.items()}
    assert "2 maps" in said["depth"]
    assert "metric depth, 1000 to the metre, 0 is unknown, 65535 is unknown" in said["depth"]
    assert "label set ade20k-150, 150 classes" in said["segmentation"]
    assert "not looked at are 1 other files: .npy 1" in said["normals"]
    assert "not looked at" not in said["depth"]
    assert "--label-set" in "".join(messages_of(str(folder), parsed(folder, "mask=binary")["segmentation"]))


def test_meanings_are_of_one_table_each(folder: Path) -> None:
    (folder / "disparity").mkdir()
    (folder / "disparity/a.tif").write_bytes(b"")
    columns = ("mask=binary", "park=labels", "disparity=gray16")
    found = parsed(
        folder,
        *columns,
        label_set=("segmentation=ade20k-150", "park=voc"),
        depth=("depth=metric:256", "disparity=inverse"),
        invalid_depth=("depth=0",),
        invert=("mask",),
    )
    assert found["park"].reading.labels.name == "voc"
    assert (found["depth"].reading.meaning, found["depth"].reading.scale) == ("metric", 256)
    assert found["depth"].reading.invalid == (0,)
    assert found["disparity"].reading.meaning == "inverse"
    assert [name for name, column in found.items() if column.reading.invert] == ["mask"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_set": ("voc",)}, "segmentation holds the classes of ade20k-150"),
        ({"label_set": ("park=voc",)}, "park is not imported as labels"),
        ({"label_set": ("ade20k-150", "ade20k-full")}, "ade20k-150 and ade20k-full are said of one table"),
        ({"depth": ("metres",)}, "metric:SCALE"),
        ({"depth": ("metric:0",)}, "metric:SCALE"),
        ({"depth": ("metric:mm",)}, "a number is meant"),
        ({"invalid_depth": ("0",)}, "say what the other values of depth are"),
        ({"invert": ("depth",)}, "binary or gray8"),
        ({"invert": ("nowhere",)}, "binary or gray8"),
    ],
)
def test_meanings_that_do_not_fit_are_refused(folder: Path, options: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(MillError, match=message):
        parsed(folder, "mask=binary", **options)


def test_a_bare_meaning_needs_a_single_table(folder: Path) -> None:
    with pytest.raises(MillError, match="say for which, NAME=voc: park, segmentation"):
        parsed(folder, "mask=binary", "park=labels", label_set=("voc",))


def test_meanings_need_a_folder() -> None:
    with pytest.raises(MillError, match="--label-set needs --conditions-from"):
        check(MapOptions(label_set=("voc",)))
    with pytest.raises(MillError, match="--condition-kind needs"):
        check(MapOptions(condition_kind=("mask=binary",)))
