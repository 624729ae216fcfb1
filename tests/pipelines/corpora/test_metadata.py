"""Metadata files beside pictures: captions by path, other files that are no photographs, whatever a line holds."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.pipelines.corpora import metadata as module
from controlmill.pipelines.corpora.captions import BYTE_ORDER_MARKS
from controlmill.pipelines.corpora.columns import parse_columns
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.corpora.passed_over import PassedOver
from controlmill.schemas.errors import MillError
from tests.helpers import make, rows, write_photos


def corpus(folder: Path, *pictures: str, **texts: str | bytes) -> Path:
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name, text in texts.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def lines(*values: object) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


def captions(folder: Path) -> tuple[dict[str, str | None], dict[str, object]]:
    passed = PassedOver()
    return {source.source: source.caption for source in FolderCorpus(str(folder)).list(passed)}, passed.said()


def test_an_image_folder_of_hugging_face(tmp_path: Path) -> None:
    said = lines(
        {"file_name": "images/0.png", "conditioning_image": "conditioning_images/0.png", "text": "a red circle"},
        {"file_name": "./images/1.png", "conditioning_image_file_name": "conditioning_images/1.png", "text": None},
        {"file_name": "images/gone.png", "text": "not there"},
    )
    pictures = (
        "images/0.png",
        "images/1.png",
        "images/2.png",
        "conditioning_images/0.png",
        "conditioning_images/1.png",
    )
    corpus(tmp_path, *pictures, **{"metadata.jsonl": said})
    listed, passed = captions(tmp_path)
    assert listed == {"images/0.png": "a red circle", "images/1.png": None, "images/2.png": None}
    assert passed == {"metadata": 1, "named": 3, "absent": 1, "maps": 2}


def test_columns_are_kept_and_chosen(tmp_path: Path) -> None:
    said = lines(
        {"file_name": "a.png", "text": "a", "title": "A", "license": "CC", "score": 0.5},
        {"file_name": "b.png", "license": "x" * 200_000},
    )
    corpus(tmp_path, "a.png", "b.png", "c.png", **{"metadata.jsonl": said})
    passed = PassedOver()
    columns = parse_columns(None, "title", ["license,score:float64"])
    listed = list(FolderCorpus(str(tmp_path), columns).list(passed))
    assert [(source.caption, source.columns) for source in listed] == [
        ("A", '{"license": "CC", "score": 0.5}'),
        (None, None),
        (None, None),
    ]
    assert passed.notes == ["metadata.jsonl, line 2: more than 100000 characters to keep"]


def test_the_folder_of_controlnets_tutorial(tmp_path: Path) -> None:
    said = lines(*({"source": f"source/{n}.png", "target": f"target/{n}.png", "prompt": f"circle {n}"} for n in "01"))
    corpus(tmp_path, "source/0.png", "source/1.png", "target/0.png", "target/1.png", **{"prompt.json": said})
    listed, passed = captions(tmp_path)
    assert listed == {"target/0.png": "circle 0", "target/1.png": "circle 1"}
    assert passed == {"metadata": 1, "named": 2, "maps": 2}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_with_quotes_and_lines_inside(tmp_path: Path, encoding: str) -> None:
    text = 'file_name,Caption,license\r\na.png,"a ""red"" circle,\r\nand é",CC\r\nsub/b.png,,CC\r\n'
    corpus(tmp_path, "a.png", "sub/b.png", **{"metadata.csv": text.encode(encoding)})
    listed, passed = captions(tmp_path)
    assert listed == {"a.png": 'a "red" circle,\r\nand é', "sub/b.png": None}
    assert passed == {"metadata": 1, "named": 2}


def test_the_nearest_file_counts_and_in_a_file_the_first_line(tmp_path: Path) -> None:
    corpus(tmp_path, "sub/a.png", "sub/b.png")
    corpus(tmp_path, **{"metadata.jsonl": lines(*({"file_name": f"sub/{n}.png", "text": "far"} for n in "ab"))})
    near = lines({"file_name": "a.png", "text": "near"}, {"file_name": "a.png", "text": "again"})
    corpus(tmp_path / "sub", **{"metadata.jsonl": near})
    assert captions(tmp_path)[0] == {"sub/a.png": "near", "sub/b.png": "far"}


def test_a_picture_that_is_another_ones_condition_too_is_a_picture(tmp_path: Path) -> None:
    said = lines(
        {"file_name": "a.png", "edited": "b.png", "text": "a"}, {"file_name": "b.png", "edited": "c.png", "text": "b"}
    )
    corpus(tmp_path, "a.png", "b.png", "c.png", **{"metadata.jsonl": said})
    assert captions(tmp_path)[0] == {"a.png": "a", "b.png": "b"}


def test_lines_that_are_not_understood_are_counted_and_said(tmp_path: Path) -> None:
    said = lines({"file_name": "a.png", "text": "a"}, {"text": "of what?"}, {"file_name": "b.png", "text": 7})
    said += '{"file_name": "c.png", "text": "\\ud800"}\n{"file_name": "\\udfff.png"}\n\n{broken\n[1]\n'
    said += lines({"file_name": "d.png", "text": ["d", "e"]})
    corpus(tmp_path, "a.png", "b.png", "c.png", "d.png", **{"metadata.jsonl": said})
    listed, passed = captions(tmp_path)
    assert listed == {"a.png": "a", "b.png": None, "c.png": None, "d.png": "d"}
    assert passed["faults"] == 6
    assert passed["notes"][:2] == [
        "metadata.jsonl, line 2: names no picture",
        "metadata.jsonl, line 3: text: neither a text nor a list of texts but a number",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", b"id,split\n1,train\n"),
        ("metadata.csv", b""),
        ("metadata.jsonl", b"\xff\xfe\xff"),
        ("metadata.jsonl", b"[" * 100_000),
        ("metadata.csv", b'file_name,text\n"' + b"x" * 200_000),
    ],
)
def test_a_file_of_another_kind_is_said_and_hurts_nobody(tmp_path: Path, name: str, text: bytes) -> None:
    listed, passed = captions(corpus(tmp_path, "a.png", **{name: text}))
    assert listed == {"a.png": None}
    assert passed["faults"] == 1
    assert passed["other"]["files"] == 1


ROW = st.dictionaries(
    st.sampled_from(["file_name", "target", "text", "Caption", "mask"]),
    st.none() | st.integers() | st.text(st.characters(), max_size=6) | st.lists(st.text(max_size=2), max_size=2),
)
LINE = ROW.map(lambda row: json.dumps(row).encode()) | st.binary(max_size=30)


@settings(max_examples=40)
@given(st.lists(LINE, max_size=6), st.sampled_from(module.NAMES), st.sampled_from([b"", *BYTE_ORDER_MARKS]))
def test_any_bytes_are_read_as_far_as_they_go(lines: list[bytes], name: str, mark: bytes) -> None:
    passed = PassedOver()
    metadata = module.Metadata(passed)
    metadata.read(io.BytesIO(mark + b"\n".join(lines)), name, "")
    metadata.look_up("a.png")
    metadata.close()
    assert all(note.startswith(name) for note in passed.notes)


def test_a_file_that_breaks_off_is_read_that_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 100)
    said = lines({"file_name": "a.png", "text": "a"}) + "x" * 1000 + "\n" + lines({"file_name": "b.png", "text": "b"})
    listed, passed = captions(corpus(tmp_path, "a.png", "b.png", **{"metadata.jsonl": said}))
    assert listed == {"a.png": "a", "b.png": None}
    assert "what follows is not read: a line of 100 characters" in passed["notes"][0]


def test_prompt_json_beside_prompt_png_is_its_caption(tmp_path: Path) -> None:
    corpus(tmp_path, "prompt.png", **{"prompt.json": '{"caption": "x"}'})
    passed = PassedOver()
    (source,) = FolderCorpus(str(tmp_path)).list(passed)
    assert (source.caption, source.texts) == (None, ".json")
    assert passed.said() == {"texts": 1}


def test_a_full_disk_for_what_metadata_says_is_a_message(tmp_path: Path) -> None:
    metadata = module.Metadata(PassedOver())
    assert metadata.read(io.BytesIO(b'{"file_name": "a.png"}'), "metadata.jsonl", "")
    metadata._run("PRAGMA max_page_count = 2")
    more = lines(*({"file_name": f"{n}.png", "text": "x" * 500} for n in range(100)))
    with pytest.raises(MillError, match=r"disk is full.*: make room for temporary files"):
        metadata.read(io.BytesIO(more.encode()), "metadata.jsonl", "")


def test_metadata_that_cannot_be_read_stops_before_work(tmp_path: Path) -> None:
    corpus(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").mkdir()  # a folder of that name is a folder
    assert list(captions(tmp_path)[0]) == ["a.png"]
    (tmp_path / "metadata.jsonl").rmdir()
    (tmp_path / "metadata.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MillError, match=r"metadata\.jsonl cannot be read"):
        captions(tmp_path)


def test_captions_of_metadata_arrive_in_their_rows_where_none_is_beside_the_picture(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 3)  # the second has a caption
    named = [str(path.relative_to(photos)) for path in sorted(photos.rglob("*.*")) if path.suffix != ".txt"]
    said = lines(*({"file_name": name, "text": f"metadata of {name}"} for name in named))
    (photos / "metadata.jsonl").write_text(said)
    make(photos, tmp_path / "dataset", "canny")
    assert [row["caption"] for row in rows(tmp_path / "dataset", "images")] == [
        f"metadata of {named[0]}",
        "scene 1",
        f"metadata of {named[2]}",
    ]


MANY = """
    import io, resource, sys
    from controlmill.pipelines.corpora.metadata import Metadata
    from controlmill.pipelines.corpora.passed_over import PassedOver
    class Endless(io.RawIOBase):
        def __init__(self, count): self.lines, self.left = (
            b'{"file_name": "%09d.png", "text": "%s"}\\n' % (n, b"a caption " * 10) for n in range(count)), b""
        def readable(self): return True
        def seekable(self): return True
        def seek(self, *_): return 0
        def readinto(self, room):
            while len(self.left) < len(room) and (line := next(self.lines, None)): self.left += line
            part, self.left = self.left[:len(room)], self.left[len(room):]
            room[:len(part)] = part
            return len(part)
    class Whole(io.BufferedReader):
        def read(self, size=-1): return self.peek(4)[:4] if size == 4 else super().read(size)
        def seek(self, *_): return 0
    metadata = Metadata(PassedOver())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert metadata.read(Whole(Endless(int(sys.argv[1]))), "metadata.jsonl", "")
    assert metadata.look_up("000000007.png")[:2] == (True, ("a caption " * 10).strip())
    metadata.close()
    print(metadata.passed.named, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_many_lines_are_read_in_bounded_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MANY), "80000"], capture_output=True, text=True, check=True
    )
    named, kilobytes = map(int, done.stdout.split())
    assert named == 80_000
    assert kilobytes < 6 * 1024  # of 11 MB
