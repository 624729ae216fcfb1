"""The listing: the same order everywhere, nothing vanishes, bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from controlmill.pipelines import sources
from controlmill.pipelines.sources import list_folder, read_caption
from controlmill.schemas.errors import MillError

from tests.helpers import rows, scene, write_photos


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(folder: Path) -> list[str]:
    return [source.source for source in list_folder(folder)]


def test_depth_first_in_sorted_order_any_case_of_the_endings(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/2.png", "a/1.Jpeg", "c.txt", "a/deep/x.webp", "d.tiff", "a.png")
    assert names(tmp_path) == ["a/1.Jpeg", "a/2.png", "a/deep/x.webp", "a.png", "b.JPG", "d.tiff"]


def test_many_names_are_sorted_on_disk_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{number * 7919 % 100:03d} é\n.png" for number in range(100)), "sub/x.png")
    whole = names(tmp_path)
    monkeypatch.setattr(sources, "SORT_IN_MEMORY", 9)
    assert names(tmp_path) == whole == sorted(whole)
    assert len(whole) == 101


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "corpus/a/1.png", "elsewhere/2.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "corpus/linked")
    os.symlink(tmp_path / "corpus", tmp_path / "corpus/a/loop")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "corpus/dangling.png")
    assert names(tmp_path / "corpus") == ["a/1.png", "dangling.png", "linked/2.png"]


def test_a_link_to_itself_and_a_pipe_are_rows_and_hang_nothing(tmp_path: Path) -> None:
    from tests.helpers import make

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
        "part0/000.jpg": "bad_caption",
        "part1/001.png": "bad_caption",
    }


def test_a_name_that_is_not_utf8_is_listed_all_the_same(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with open(path, "wb") as file:
        file.write(b"x")
    assert names(tmp_path) == ["\\xff.png"]


def test_no_such_folder() -> None:
    with pytest.raises(MillError, match="no such folder"):
        names(Path("/no/such/folder"))


def test_captions_beside_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeff a cat \n", "utf-8")
    (tmp_path / "b.json").write_text('{"text": "a dog", "score": 1}', "utf-8")
    (tmp_path / "c.json").write_text('["no", "caption"]', "utf-8")
    (tmp_path / "d.json").write_text("{broken", "utf-8")
    said = [read_caption(tmp_path / f"{name}.png") for name in "abcx"]
    assert said == ["a cat", "a dog", None, None]
    with pytest.raises(ValueError, match="Expecting"):
        read_caption(tmp_path / "d.png")


def test_captions_arrive_in_their_rows(photos: Path, dataset: Path) -> None:
    assert {row["source"].split("/")[-1][:3]: row["caption"] for row in rows(dataset, "images")} == {
        f"{number:03d}": f"scene {number}" if number % 2 else None for number in range(10)
    }


MILLION = """
    import os, resource, sys
    from controlmill.pipelines import sources
    class Entry:
        def __init__(self, name, folder): self.name, self.folder = name, folder
        def is_dir(self): return self.folder
    class Folder:
        # a flat folder of a million names, in no order, and a few more below it
        def __init__(self, path): self.names = range(int(sys.argv[1])) if path == "root" else range(10)
        def __enter__(self): return (Entry(f"{n * 7919 % 1_000_003:08d}-a-long-name.jpg", False) for n in self.names)
        def __exit__(self, *_): pass
    sources.os.scandir = Folder
    sources.os.path.isdir = lambda path: True
    sources.os.stat = lambda path: os.stat_result((0,) * 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    last, count = "", 0
    for source in sources.list_folder("root"):
        assert source.source > last
        last, count = source.source, count + 1
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_million_names_are_listed_in_bounded_memory() -> None:
    used = []
    for count in (200_000, 1_000_000):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(MILLION), str(count)], capture_output=True, text=True, check=True
        )
        listed, kilobytes = map(int, done.stdout.split())
        assert listed == count
        used.append(kilobytes)
    assert used[1] < 64 * 1024
    assert used[1] < 2 * used[0] + 8 * 1024


def test_a_listing_is_fixed_before_work_starts(tmp_path: Path) -> None:
    from tests.helpers import make

    photos = write_photos(tmp_path / "photos", 4)
    make(photos, tmp_path / "dataset", "canny")
    scene(9).save(photos / "new.png")
    make(photos, tmp_path / "dataset", "canny")
    assert len(rows(tmp_path / "dataset", "images")) == 4
