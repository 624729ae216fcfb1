"""The listing of a folder: the same order everywhere, nothing vanishes, bounded memory."""

from __future__ import annotations

import errno
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from controlmill.pipelines.corpora import sorting
from controlmill.pipelines.corpora import walk as module
from controlmill.pipelines.corpora.files import read_regular
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.corpora.passed_over import PassedOver
from controlmill.pipelines.stages.ingest import IngestStep
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images import formats
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, make, rows, write_photos


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(folder: Path, passed: PassedOver | None = None) -> list[str]:
    return [source.source for source in FolderCorpus(str(folder)).list(passed)]


def test_depth_first_in_sorted_order_any_case_of_the_endings(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/2.png", "a/1.Jpeg", "c.txt", "a/deep/x.webp", "d.tiff", "a.png")
    assert names(tmp_path) == ["a/1.Jpeg", "a/2.png", "a/deep/x.webp", "a.png", "b.JPG", "d.tiff"]


def test_many_names_are_sorted_on_disk_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{number * 7919 % 100:03d} é\n.png" for number in range(100)), "sub/x.png")
    whole = names(tmp_path)
    monkeypatch.setattr(module, "SORT_IN_MEMORY", 9)
    assert names(tmp_path) == whole == sorted(whole)
    assert len(whole) == 101


def test_a_full_disk_for_temporary_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    touch(tmp_path, "1.png", "2.png")
    monkeypatch.setattr(module, "SORT_IN_MEMORY", 1)
    monkeypatch.setattr(sorting, "_spilled", full)
    with pytest.raises(MillError, match="No space left on device; make room for temporary files"):
        names(tmp_path)


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "corpus/a/1.png", "elsewhere/2.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "corpus/linked")
    os.symlink(tmp_path / "corpus", tmp_path / "corpus/a/loop")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "corpus/dangling.png")
    passed = PassedOver()
    assert names(tmp_path / "corpus", passed) == ["a/1.png", "dangling.png", "linked/2.png"]
    assert passed.said() == {"again": 1}


def test_a_folder_is_listed_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    for level in range(12):
        touch(tmp_path, f"{level:02d}/{level}.png")
        for name in "ab":
            os.symlink(tmp_path / f"{level + 1:02d}", tmp_path / f"{level:02d}" / name)
    touch(tmp_path, "12/12.png")
    assert names(tmp_path / "00") == [f"{'a/' * level}{level}.png" for level in range(13)]
    passed = PassedOver()
    assert names(tmp_path, passed) == [f"{level:02d}/{level}.png" for level in range(13)]  # by its own path
    assert passed.said() == {"again": 24}


def test_more_folders_in_each_other_than_calls_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("d/" * 200)).mkdir(parents=True)
    touch(tmp_path, "d/" * 200 + "x.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert names(tmp_path) == ["d/" * 200 + "x.png"]
    finally:
        sys.setrecursionlimit(limit)


def test_what_is_hidden_deleted_or_a_thumbnail_is_counted_and_not_listed(tmp_path: Path) -> None:
    skipped = (".ipynb_checkpoints/a-checkpoint.png", ".Trash-1000/files/b.png", "sub/@eaDir/c.jpg/THUMB_M.jpg")
    touch(tmp_path, "a.png", "._a.png", "__MACOSX/._a.png", "$RECYCLE.BIN/d.png", *skipped)
    os.symlink("loop", tmp_path / ".loop")
    passed = PassedOver()
    assert names(tmp_path, passed) == names(tmp_path) == ["a.png"]
    said = passed.said()["skipped"]
    assert said["files"] == 7
    assert said["most"] == {
        **{".ipynb_checkpoints": 1, ".Trash-1000": 1, "@eaDir": 1, "__MACOSX": 1, "$RECYCLE.BIN": 1},
        "hidden files": 2,
    }


def test_files_that_are_not_listed_are_counted_by_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "reads_heif", lambda: False)
    formats.picture_endings.cache_clear()
    others = ("IMG_1.HEIC", "b.heic", "c.jpg_large", "d", "e.a-very-long-ending-indeed", "f.parquet")
    touch(tmp_path, "a.MPO", "a.txt", "sub/b.CAPTION", *others)
    passed = PassedOver()
    assert names(tmp_path, passed) == ["a.MPO"]
    assert passed.said() == {
        "texts": 2,
        "other": {"files": 6, "most": {".heic": 2, ".jpg_large": 1, ".parquet": 1, "no ending": 1, "other": 1}},
    }
    monkeypatch.undo()
    formats.picture_endings.cache_clear()
    assert ("IMG_1.HEIC" in names(tmp_path)) == formats.reads_heif()


def test_folders_that_are_not_of_the_corpus_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "maps/canny/a.png", "dataset/sheet.png")
    os.symlink(tmp_path / "dataset", tmp_path / "linked")
    passed = PassedOver()
    left_out = (str(tmp_path / "maps"), str(tmp_path / "dataset"), str(tmp_path / "not there"))
    assert [source.source for source in FolderCorpus(str(tmp_path)).list(passed, left_out)] == ["a.png"]
    assert passed.left_out == ["dataset/", "maps/", "linked/"]


def test_a_name_that_is_not_utf8_never_takes_the_pixels_of_its_spelling(tmp_path: Path) -> None:
    """Both files are listed by the same spelling, and have the same size."""
    photos = write_photos(tmp_path / "photos", 1)
    one = next(photos.rglob("*.jpg"))
    for name in (b"\xe9.jpg", rb"\xe9.jpg", b"folder\xff/x.jpg"):
        path = os.path.join(os.fsencode(photos), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(one.read_bytes())
    made = make(photos, tmp_path / "dataset", "canny")
    assert [row["source"] for row in rows(tmp_path / "dataset", "images")] == ["\\xe9.jpg", "part0/000.jpg"]
    refused = [(row["source"], row["reason"]) for row in rows(tmp_path / "dataset", "rejected")]
    assert refused == [("folder\\xff/x.jpg", "missing"), ("\\xe9.jpg", "missing")]
    assert list(verify(made)) == []


def test_a_file_without_a_size_is_not_read(tmp_path: Path) -> None:
    """Those of /proc can block whoever reads them, and have none."""
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("needs /proc")
    assert path.read_bytes()
    assert path.stat().st_size == 0
    assert read_regular(path, 1000) == b""
    os.symlink(path, tmp_path / "a.png")
    with pytest.raises(Refused, match="the file is empty"):
        IngestStep(FolderCorpus(str(tmp_path)), SMALL).do(*FolderCorpus(str(tmp_path)).list())


def test_a_link_to_itself_and_a_pipe_are_rows_and_hang_nothing(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    os.symlink("loop.jpg", photos / "loop.jpg")
    os.mkfifo(photos / "pipe.jpg")
    os.mkfifo(photos / "part0" / "000.txt")
    (photos / "part1" / "001.txt").unlink()
    (photos / "part1" / "001.json").write_text('{"caption": "\\ud800"}')
    make(photos, tmp_path / "dataset", "canny")
    assert {row["source"]: row["reason"] for row in rows(tmp_path / "dataset", "rejected")} == {
        "loop.jpg": "unreadable",
        "pipe.jpg": "unreadable",
    }
    assert {row["source"]: (row["caption"], row["caption_error"]) for row in rows(tmp_path / "dataset", "images")} == {
        "part0/000.jpg": (None, "OSError: not a regular file"),
        "part1/001.png": (None, "001.json: caption: it holds half a character (surrogates not allowed)"),
    }


def test_a_name_that_is_not_utf8_is_listed_all_the_same(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with open(path, "wb") as file:
        file.write(b"x")
    assert names(tmp_path) == ["\\xff.png"]


def test_no_such_folder() -> None:
    with pytest.raises(MillError, match="no such folder"):
        names(Path("/no/such/folder"))


LISTING = """
    import os, resource, sys
    from controlmill.pipelines.corpora import folder
    class Entry:
        def __init__(self, name, folder): self.name, self.folder = name, folder
        def is_dir(self): return self.folder
    class Folder:
        # a flat folder of many names, in no order, and a few more below it
        def __init__(self, path): self.names = range(int(sys.argv[1])) if path == "root" else range(10)
        def __enter__(self): return (Entry(f"{n * 7919 % 1_000_003:08d}-a-long-name.jpg", False) for n in self.names)
        def __exit__(self, *_): pass
    folder.os.scandir = Folder
    folder.os.path.isdir = lambda path: True
    folder.os.stat = lambda path: os.stat_result((0,) * 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    last, count = "", 0
    for source in folder.FolderCorpus("root").list():
        assert source.source > last
        last, count = source.source, count + 1
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_many_names_are_listed_in_bounded_memory() -> None:
    used = []
    for count in (100_000, 400_000):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(LISTING), str(count)], capture_output=True, text=True, check=True
        )
        listed, kilobytes = map(int, done.stdout.split())
        assert listed == count
        used.append(kilobytes)
    assert used[1] < 32 * 1024
    assert used[1] < 2 * used[0] + 8 * 1024
