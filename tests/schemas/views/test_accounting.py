"""Every file of a corpus is accounted for, in a line that adds up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from controlmill.pipelines import ingestion
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.views import accounting as module
from controlmill.schemas.views.accounting import accounting, passed_over_lines, unread_captions
from tests.helpers import SMALL, KeptResources, rows, scene, write_hostile, write_photos


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Pictures, and about everything else that lies in folders; the dataset and maps inside the corpus too."""
    photos = write_photos(tmp_path_factory.mktemp("corpus") / "photos", 4)
    write_hostile(photos / "hostile")
    scene(1).save(photos / "animated.gif", save_all=True, append_images=[scene(2)])
    (photos / "part0" / "000.txt").write_bytes(b"\0")
    (photos / "@eaDir" / "000.jpg").mkdir(parents=True)
    others = ("raw.CR2", "other.cr2", "\x1b[31m.\x1b[2J", "@eaDir/000.jpg/THUMB.jpg", ".hidden.jpg", "part1/stray.txt")
    for name in others:
        (photos / name).write_bytes(b"x")
    (photos / "again").symlink_to(photos / "part0")
    (photos / "maps" / "canny").mkdir(parents=True)
    (photos / "maps" / "canny" / "000.png").write_bytes(b"x")
    (photos / "metadata.jsonl").write_text(json.dumps({"file_name": "gone.png", "text": "x"}) + "\n[]\n")
    with KeptResources(threads=1) as resources:
        for _ in range(2):  # the second time, files of the dataset are there
            made = ingestion.ingest(
                str(photos), str(photos / "dataset"), SMALL, resources, 4, leave_out=[str(photos / "maps")]
            )
    return made


def test_all_files_are_accounted_for(made: Dataset) -> None:
    line, *more = accounting(made)
    assert line == (
        "18 files: 5 kept, 3 refused, 5 caption files, "
        r"3 not looked at (.cr2 2, .\x1b[2j 1), 2 in hidden or skipped folders (@eaDir 1, hidden files 1); "
        "captions: 3 of 5 pictures have none, 1 of them because it cannot be read"
    )
    counts = [int(count) for count in re.findall(r"(\d+) (?:files:|kept|refused|caption|not looked|in hidden)", line)]
    assert counts[0] == sum(counts[1:])
    photos = Path(made.storage.root).parent
    seen = [path for path in photos.rglob("*") if not path.is_dir() and not path.is_symlink()]
    assert counts[0] == sum(not path.is_relative_to(photos / part) for path in seen for part in ["dataset"]) - 1
    assert more == [
        "links to folders that are listed already, not followed: 1",
        "not part of the corpus (the dataset itself, or maps to import): dataset/, maps/",
        "metadata names 1 pictures, of which 1 are not there",
        "1 lines or files of metadata were not understood:",
        "  metadata.jsonl, line 2: names no picture",
        "files of several pictures (an animation, pages), of which the first is taken: 1",
    ]
    assert [row["source"] for row in rows(Path(made.storage.root), "images") if row["several"]] == ["animated.gif"]


def test_the_card_says_how_many_captions_there_are(made: Dataset) -> None:
    assert "2 of 5 pictures have a caption" in (Path(made.storage.root) / "README.md").read_text("utf-8")


def test_captions_that_could_not_be_read_are_named(made: Dataset) -> None:
    (line,) = unread_captions(made, 10)
    assert line.startswith("  no caption for part0/000.jpg: 000.txt: it holds NUL")
    assert unread_captions(made, 0) == []


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("a.CR2", "b.cr2", ".c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(MillError, match=r"no pictures.*\n  3 files: 2 not looked at \(.cr2 2\), 1 in hidden"):
        ingestion.check_ingest(str(tmp_path), str(tmp_path / "dataset"), SMALL, 4, ())


@pytest.mark.parametrize("there", [True, False])
def test_heif_pictures_say_how_they_are_read(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(module, "reads_heif", lambda: there)
    lines = passed_over_lines({"other": {"files": 3, "most": {".heic": 1, ".psd": 1}}})
    assert lines[0] == "3 files: 3 not looked at (.heic 1, .psd 1, 1 more)"
    assert lines[1:] == [] if there else ["HEIF pictures (.heic, .heif) are read with: pip install '.[heif]'"]
