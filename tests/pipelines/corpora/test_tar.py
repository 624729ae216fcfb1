"""Tar archives: WebDataset's rules, what it drops is counted, and a hostile archive costs a reason and no more."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import webdataset

from controlmill.pipelines.corpora.columns import Columns, parse_columns
from controlmill.pipelines.corpora.corpus import Source
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.pipelines.corpora.passed_over import PassedOver
from controlmill.pipelines.corpora.tar import TarCorpus
from controlmill.pipelines.corpora.tar_members import MAX_EXTENDED, members
from controlmill.pipelines.engine.faults import JobFault
from controlmill.schemas.errors import MillError, Refused
from tests.helpers import command, rows, scene, write_photos

MANY = 10**6


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def picture(number: int) -> bytes:
    file = io.BytesIO()
    scene(number).save(file, "PNG")
    return file.getvalue()


def listed(path: Path | str, columns: Columns = Columns()) -> tuple[dict[str, str | None], Mapping[str, object]]:  # noqa: B008
    """Of each source, what it is refused for; and what was passed over."""
    passed = PassedOver()
    found = {source.source: source.reason for source in TarCorpus(str(path), columns).list(passed)}
    return found, passed.said()


def read(path: Path | str, columns: Columns = Columns()) -> list[tuple[bytes, str | None, str | None]]:  # noqa: B008
    corpus = TarCorpus(str(path), columns)
    records = [corpus.read(source, MANY) for source in corpus.list()]
    return [(record.data, record.caption, record.caption_error) for record in records]


def test_samples_are_those_of_webdataset(tmp_path: Path) -> None:
    files = [
        ("a/0001.jpg", b"1"),
        ("a/0001.txt", b"one"),
        ("a/0001.seg.png", b"s"),
        ("__meta__/x.json", b"{}"),
        ("__index__", b"i"),
        ("b.c/0001.v1.png", b"2"),
        ("noending", b"n"),
        ("0002.PNG", b"3"),
        ("0003.cls", b"7"),
        ("0002.png", b"4"),
        ("./d/0004.webp", b"5"),
    ]
    path = write_tar(tmp_path / "x.tar", files)
    found, passed = listed(path)
    assert found == dict.fromkeys(("a/0001.jpg", "b.c/0001.v1.png", "0002.PNG", "0002.png", "d/0004.webp"))
    assert passed == {
        "texts": 1,
        "other": {"files": 3, "most": {".cls": 1, ".seg.png": 1, "no ending": 1}},
        "skipped": {"files": 2, "most": {"__…__": 2}},
    }
    theirs = {sample["__key__"] for sample in webdataset.WebDataset(str(path), shardshuffle=False)}
    assert theirs == {"a/0001", "b.c/0001", "0002", "0003", "./d/0004"}
    assert [data for data, *_ in read(path)] == [b"1", b"2", b"3", b"4", b"5"]


def test_captions_follow_the_rules_of_a_folder(tmp_path: Path) -> None:
    files = [
        *(("1.jpg", b"1"), ("1.json", b'{"caption": "one", "license": "CC"}'), ("1.txt", b" ")),
        *(("2.txt", b"two"), ("2.jpg", b"2"), ("2.json", b'{"caption": "not this"}')),
        *(("3.jpg", b"3"), ("3.json", b'{"license": "CC0", "score": 0.5}')),
        *(("4.jpg", b"4"), ("4.txt", b"\xff\xfe\xff")),
        *(("5.jpg", b"5"), ("5.jpg.txt", b"five")),
        *(("6.txt", b"x" * 300_000), ("6.jpg", b"6")),
    ]
    path = write_tar(tmp_path / "x.tar", files)
    assert [(caption, error and error[:20]) for _, caption, error in read(path)] == [
        ("one", None),
        ("two", None),
        (None, None),
        (None, ".txt member: neither"),
        ("five", None),
        (None, ".txt member: larger "),
    ]
    assert [caption for _, caption, _ in read(path, Columns(caption="license"))] == [
        "CC",
        None,
        "CC0",
        None,
        None,
        None,
    ]
    assert [data for data, *_ in read(path, Columns(image="json"))][2] == files[7][1]


def test_columns_that_are_kept_are_those_of_the_json(tmp_path: Path) -> None:
    files = [("1.jpg", b"1"), ("1.json", b'{"license": "CC", "score": "0.5", "size": [1]}'), ("2.jpg", b"2")]
    path = write_tar(tmp_path / "x.tar", files)
    corpus = TarCorpus(str(path), parse_columns(None, None, ["license,score:float64", "size"]))
    first, second = (corpus.read(source, MANY) for source in corpus.list())
    assert first.columns == {"license": "CC", "score": "0.5", "size": [1]}
    assert second.columns == {}
    for wrong, why in (("score:real", "a type is one of bool, int8"), ("width", "images has a column of this name")):
        with pytest.raises(MillError, match=why):
            parse_columns(None, None, [wrong])


def test_the_same_pictures_as_tar_give_the_same_pixels_and_keys(tmp_path: Path) -> None:
    """Also from several archives; a rerun finds them as listed, another archive of that name does not pass for them."""
    photos, address = write_photos(tmp_path / "photos", 6), str(tmp_path / "{0..1}.tar")
    files = sorted(path for path in photos.rglob("*.*"))
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for path in files[number * 5 :][:5]:
                archive.add(path, str(path.relative_to(photos)))
    as_built = ("--resolution", "128", "--min-side", "16")
    assert command("ingest", str(photos), str(tmp_path / "folder"), *as_built).returncode == 0
    for _ in range(2):
        done = command("ingest", address, str(tmp_path / "tar"), *as_built)
        assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "tar", "images") == rows(tmp_path / "folder", "images")
    assert "9 files: 6 kept, 0 refused, 3 caption files" in done.stderr
    segment = json.loads((tmp_path / "tar/dataset.json").read_text())["segments"][0]
    assert segment["corpus"] == "tar"
    assert str(tmp_path) not in json.dumps(rows(tmp_path / "tar", "sources"))
    done = command("ingest", address, str(tmp_path / "tar"), *as_built, "--image-column", "jpg")
    assert "image column" in done.stderr
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", [("x.png", picture(1))])
    assert "is not the corpus that" in command("ingest", address, str(tmp_path / "tar"), *as_built).stderr


def hostile(tmp_path: Path) -> Path:
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (
            *(("link.jpg", tarfile.SYMTYPE), ("hard.jpg", tarfile.LNKTYPE), ("device.jpg", tarfile.CHRTYPE)),
            *(("pipe.jpg", tarfile.FIFOTYPE), ("folder.jpg", tarfile.DIRTYPE), ("odd.jpg", b"Z")),
        ):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
        for name in (
            "../climbs.jpg",
            "/data/absolute.jpg",
            "/../c.jpg",
            "a/../../b.jpg",
            "\udcff.jpg",
            "twice.jpg",
            "twice.jpg",
            "x" * 300 + ".jpg",
        ):
            header = tarfile.TarInfo(name)
            header.size = 3
            archive.addfile(header, io.BytesIO(b"abc"))
        header = tarfile.TarInfo("holes.jpg")
        header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999999"}
        archive.addfile(header)
    return path


def test_a_hostile_archive_costs_reasons(tmp_path: Path) -> None:
    path = hostile(tmp_path)
    found, passed = listed(path)
    assert found == {
        **dict.fromkeys(("../climbs.jpg", "a/../../b.jpg", "../c.jpg"), "bad_name"),
        "data/absolute.jpg": None,
        "\\xff.jpg": "missing",
        "twice.jpg": None,
        "x" * 300 + ".jpg": None,
    }
    sources = list(TarCorpus(str(path)).list())
    assert [source.reason for source in sources if source.source == "twice.jpg"] == ["duplicate", None]
    assert passed["other"] == {"files": 6, "most": {"device": 1, "link": 2, "pipe": 1, "sparse file": 1, "unknown": 1}}
    assert list(tmp_path.iterdir()) == [path]


def header(name: str = "a.jpg", size: bytes = b"00000000003\0", kind: bytes = b"0") -> bytes:
    block = bytearray(tarfile.TarInfo(name).tobuf())
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (header(size=b"\xff" * 12) + bytes(2048), "says that it has -1 bytes"),
        (header(kind=b"x", size=b"77777777777\0") + bytes(2048), "says that it has 8,589,934,591 bytes"),
        (header(kind=b"x", size=b"00000001000\0") + b"9" * 512 + header() + bytes(1536), "have no length"),
        (header(kind=b"x", size=b"\xff" * 12) + bytes(2048), "says that it has -1 bytes"),
        (b"GIF89a" * 500, "no header of a member at byte 0"),
        (header()[:300], "no header of a member at byte 0"),
        (header() + b"abc" + bytes(509), "no end mark"),
        (header() + b"abc" + bytes(509 + 1024) + header() + bytes(2048), "more follows after its end"),
        (header(kind=b"L", size=b"00000000003\0") + b"abc" + bytes(509), "no end mark"),
    ],
)
def test_headers_that_lie_are_notes(tmp_path: Path, data: bytes, note: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    _, passed = listed(path)
    assert note in str(passed["notes"])


def test_many_headers_before_a_member_take_neither_memory_nor_calls(tmp_path: Path) -> None:
    extended = b"".join(b"%d k%d=%s\n" % (len(str(n)) + 12, n, b"x" * 6) for n in range(10, 99))
    block = header(kind=b"x", size=b"%011o\0" % len(extended)) + extended.ljust(-(-len(extended) // 512) * 512, b"\0")
    data = block * 2_000 + header() + b"abc".ljust(512, b"\0") + bytes(1024)
    assert [member.name for member in members(io.BytesIO(data), len(data))] == ["a.jpg"]
    assert len(data) > MAX_EXTENDED


def test_a_member_that_says_to_be_larger_than_its_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(header(size=b"77777777777\0") + b"abc")
    (source,) = TarCorpus(str(path)).list()
    assert source.reason == "truncated"
    with pytest.raises(Refused, match="the cap is"):
        TarCorpus(str(path)).read(source, MANY)


@pytest.mark.parametrize("locator", [None, "0+3", "0+3 @/etc/passwd", "0+3 @../x.tar", "x", "0+3 .txt:1 @x.tar"])
def test_a_listing_of_anybody_leads_nowhere(tmp_path: Path, locator: str | None) -> None:
    path = write_tar(tmp_path / "corpus.tar", [("a.jpg", b"abc")])
    with pytest.raises(Refused):
        TarCorpus(str(path)).read(Source("a.jpg", locator, 3), MANY)
    assert not TarCorpus(str(path)).is_as_listed(Source("a.jpg", locator, 3))


def test_an_archive_that_changed_or_is_gone_is_found(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"abc")])
    corpus = TarCorpus(str(path))
    (source,) = corpus.list()
    assert corpus.is_as_listed(source)
    assert corpus.read(source, MANY).data == b"abc"
    write_tar(path, [("a.jpg", b"abc"), ("b.jpg", b"xyz")])
    assert not corpus.is_as_listed(source)
    with pytest.raises(Refused, match="not as it was listed"):
        corpus.read(source, MANY)
    path.unlink()
    with pytest.raises(JobFault, match="run the same command again"):
        corpus.read(source, MANY)


def test_a_compressed_archive_is_told_to_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(MillError, match="unpack it first"):
        open_corpus(str(tmp_path / "*.tar.gz"))
