"""Another method's pictures: found by their names; what does not fit is told before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from controlmill.pipelines.results.listing import ChosenRows, Layout, listed_columns
from controlmill.pipelines.results.pictures import match
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from tests.helpers import command, places, rows


@pytest.fixture
def chosen(dataset: Path) -> ChosenRows:
    """Two rows."""
    return ChosenRows(Dataset.open(dataset), places(dataset)[1:4:2], "two")


def write(folder: Path, chosen: ChosenRows, pattern: str, pictures: int = 2) -> list[Path]:
    """Pictures for all chosen rows, of their sizes."""
    images = {row["key"]: row for row in rows(Path(chosen.dataset.storage.address), "images")}
    sources = [source for _, source, _ in chosen.sources()]
    written = []
    for row in images.values():
        for j in range(pictures if row["source"] in sources else 0):
            path = folder / pattern.format(name=row["source"].rpartition(".")[0], j=j)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (row["width"], row["height"])).save(path)
            written.append(path)
    return written


@pytest.mark.parametrize("pattern", ["{name}_{j}.png", "group_{j}/{name}.jpg"])
def test_pictures_are_found_by_their_sources_without_ending(chosen: ChosenRows, pattern: str, tmp_path: Path) -> None:
    written = write(tmp_path, chosen, pattern)
    listed = match(str(tmp_path), chosen, Layout(("user",), 2)).sources
    assert [tmp_path / source.source for source in listed] == written
    assert [tuple(listed_columns(source).values())[:3] for source in listed] == [
        (*place, j) for place in chosen.places for j in (0, 1)
    ]
    assert [source.caption for source in listed[::2]] == [caption for _, _, caption in chosen.sources()]


def test_one_picture_a_row_may_have_its_name_alone(chosen: ChosenRows, tmp_path: Path) -> None:
    write(tmp_path, chosen, "{name}.png", pictures=1)
    assert len(match(str(tmp_path), chosen, Layout(("none",), 1)).sources) == 2


def test_pictures_of_rows_that_are_not_evaluated_are_no_fault(
    chosen: ChosenRows, dataset: Path, tmp_path: Path
) -> None:
    write(tmp_path, ChosenRows(chosen.dataset, places(dataset)[1:4], "three"), "{name}_{j}.png")
    assert match(str(tmp_path), chosen, Layout(("none",), 2)).unused == 2


def test_all_faults_of_names_are_told_at_once(chosen: ChosenRows, tmp_path: Path) -> None:
    first, _, third, _ = write(tmp_path, chosen, "{name}_{j}.png")
    third.rename(tmp_path / "stranger.png")
    Image.open(first).save(first.with_suffix(".jpg"))
    with pytest.raises(MillError) as caught:
        match(str(tmp_path), chosen, Layout(("none",), 2))
    said = str(caught.value)
    assert f"pictures are missing (1):\n  {third.relative_to(tmp_path).with_suffix('')}" in said
    assert "pictures of no row of the dataset (1):\n  stranger.png" in said
    assert f"are there twice (1):\n  {first.relative_to(tmp_path).with_suffix('')}." in said


def test_a_picture_of_another_size_is_refused(chosen: ChosenRows, tmp_path: Path) -> None:
    first, *_ = write(tmp_path, chosen, "{name}_{j}.png")
    Image.new("RGB", (9, 7)).save(first)
    with pytest.raises(MillError, match=r"is 9x7, its row \d+x\d+"):
        match(str(tmp_path), chosen, Layout(("none",), 2))


def test_a_picture_that_cannot_be_read_is_left_to_the_job(chosen: ChosenRows, tmp_path: Path) -> None:
    first, *_ = write(tmp_path, chosen, "{name}_{j}.png")
    first.write_bytes(b"no picture")
    assert len(match(str(tmp_path), chosen, Layout(("none",), 2)).sources) == 4


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> ChosenRows:
    """Rows of which one is called as another's first picture may be, and one with an accent."""
    folder = tmp_path_factory.mktemp("alike")
    for name in ("x", "x_0", "\u00e9"):
        (folder / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (len(name), 0, 0)).save(folder / f"photos/{name}.png")
    assert command("ingest", str(folder / "photos"), str(folder / "data"), "--resolution", "64").returncode == 0
    return ChosenRows(Dataset.open(folder / "data"), places(folder / "data"), "all")


@pytest.mark.parametrize("pattern", ["{name}_{j}.PNG", "group_{j}/{name}.jpg", "{name}.png"])
def test_a_name_that_could_be_two_rows_is_that_of_the_folders_pattern(
    alike: ChosenRows, pattern: str, tmp_path: Path
) -> None:
    write(tmp_path, alike, pattern, pictures=1)
    found = [source.source for source in match(str(tmp_path), alike, Layout(("none",), 1)).sources]
    assert found == [pattern.format(name=source.rpartition(".")[0], j=0) for _, source, _ in alike.sources()]


def test_no_picture_is_taken_for_two_rows(alike: ChosenRows, tmp_path: Path) -> None:
    write(tmp_path, alike, "{name}.png", pictures=1)
    (tmp_path / "x.png").unlink()
    with pytest.raises(MillError, match=r"pictures are missing \(1\):\n  x\n"):
        match(str(tmp_path), alike, Layout(("none",), 1))


def test_accents_may_be_written_apart_from_their_letters(alike: ChosenRows, tmp_path: Path) -> None:
    write(tmp_path, alike, "{name}.png", pictures=1)
    (tmp_path / "\u00e9.png").rename(tmp_path / "e\u0301.png")
    assert len(match(str(tmp_path), alike, Layout(("none",), 1)).sources) == 3
