"""Tables of pictures: which columns are read, rows by their group, and footers and cells that lie."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.pipelines.corpora import parquet as module
from controlmill.pipelines.corpora import row_groups, tar
from controlmill.pipelines.corpora.columns import Columns, parse_columns
from controlmill.pipelines.corpora.corpus import Source
from controlmill.pipelines.corpora.parquet import ParquetCorpus
from controlmill.pipelines.corpora.table_layout import check_file
from controlmill.pipelines.corpora.tar import TarCorpus
from controlmill.pipelines.engine.faults import JobFault
from controlmill.pipelines.engine.rows import RowStep, run_rows
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.files.shardfile import ShardFile
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.views.verify import verify
from tests.helpers import command, rows, write_photos
from tests.pipelines.corpora.test_tar import MANY, write_tar

AS_BUILT = ("--resolution", "128", "--min-side", "16")


class Inline(LayoutCheck):
    """Looks at footers in this process, which spares the seconds that another takes to begin."""

    def __call__(self, storage: Storage, name: str) -> None:
        check_file(storage, name)


@pytest.fixture(autouse=True)
def _(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "lies" not in request.node.name:
        monkeypatch.setattr(module, "LayoutCheck", lambda _: Inline())


@dataclass(frozen=True)
class Read(RowStep):
    """A source's bytes."""

    corpus: ParquetCorpus

    def cost(self, row: Source) -> int:
        return 15 * 1024 * 1024

    def do(self, row: Source) -> bytes:
        return self.corpus.read(row, MANY).data


def write(path: Path, columns: Mapping[str, Sequence[Any]], group: int = 4, **types: pa.DataType) -> Path:
    arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=group)
    return path


def found(path: Path | str, columns: Columns = Columns()) -> list[tuple[str, bytes | str, str | None]]:  # noqa: B008
    """(name, bytes or why it is refused, caption) of each row."""
    corpus = ParquetCorpus(str(path), columns)
    result: list[tuple[str, bytes | str, str | None]] = []
    for source in corpus.list():
        if source.fault:
            result.append((source.source, f"{source.reason}: {source.fault}", None))
            continue
        record = corpus.read(source, MANY)
        result.append((source.source, record.data, record.caption or record.caption_error))
    return result


def test_the_columns_of_hugging_face(tmp_path: Path) -> None:
    images = [{"bytes": b"1", "path": "a/1.png"}, {"bytes": b"2", "path": None}, {"bytes": b"3", "path": "../3.png"}]
    images += [{"bytes": b"4", "path": "//data/4.png"}, {"bytes": b"5", "path": "/"}]
    others = [{"bytes": b"x", "path": "x"}] * 5
    path = write(tmp_path / "x.parquet", {"conditioning_image": others, "image": images, "text": ["one", "", *"abc"]})
    assert found(path) == [
        ("a/1.png", b"1", "one"),
        ("x.parquet/1", b"2", None),
        ("../3.png", "bad_name: its name leads out of the corpus", None),
        ("data/4.png", b"4", "b"),
        ("x.parquet/4", b"5", "c"),
    ]
    chosen = Columns(image="conditioning_image", caption="text")
    assert [data for _, data, _ in found(path, chosen)] == [b"x"] * 5


def test_plain_columns_of_bytes_and_lists_of_captions(tmp_path: Path) -> None:
    values = {"webp": [b"1", b"2"], "path": ["p/1.webp", "p/2.webp"], "captions": [["", "one"], [7, 8]]}
    values["captions"][1] = []
    write(tmp_path / "0.parquet", values, webp=pa.large_binary())
    write(tmp_path / "1.parquet", {"jpg": [b"3"], "n": [1]})
    assert found(tmp_path / "{1,0}.parquet") == [
        ("1.parquet/0", b"3", None),
        ("p/1.webp", b"1", "one"),
        ("p/2.webp", b"2", None),
    ]


def test_odd_columns_are_read_or_named(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat.parquet", {"image.bytes": [b"1"], "image.path": ["a.png"], "text": ["one"]})
    assert found(flat) == [("flat.parquet/0", b"1", "one")]
    numbered = write(tmp_path / "numbered.parquet", {"image": [{"bytes": b"1", "path": 7}], "key": ["a"]})
    assert found(numbered) == [("a.jpg", b"1", None)]
    for name in ("image", "text"):
        twice = pa.Table.from_arrays([pa.array([b"1"]), *[pa.array([b"2"])] * 2], names=["jpg", name, name])
        pq.write_table(twice, tmp_path / "twice.parquet")
        with pytest.raises(MillError, match=f"several columns {name}"):
            found(tmp_path / "twice.parquet")


def test_rows_that_img2dataset_did_not_get_are_refused_with_its_reasons(tmp_path: Path) -> None:
    status = ["success", *["failed_to_download"] * 5, "failed_to_resize"]
    errors = [None, "HTTP Error 404: Not Found", "<urlopen error timed out>", "[Errno -2] Name or service not known"]
    errors += ["Use of image disallowed by X-Robots-Tag directive", None, "image decoding error"]
    keys = [f"{number:09d}" for number in range(7)]
    values = {"key": keys, "status": status, "error_message": errors, "jpg": [b"1", *[None] * 6], "caption": ["c"] * 7}
    listed = found(write(tmp_path / "00000.parquet", values))
    assert listed[0] == ("000000000.jpg", b"1", "c")
    assert [str(why).partition(":")[0] for _, why, _ in listed[1:]] == [
        *("http_error", "timeout", "http_error", "opted_out", "http_error", "not_an_image")
    ]
    assert listed[5][1] == "http_error: img2dataset: failed_to_download"


def test_what_img2dataset_says_beside_its_tars_is_listed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "LayoutCheck", lambda _: Inline())
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", [(f"{number}0.jpg", b"1"), (f"{number}0.json", b'{"caption": "c"}')])
    keys = {"key": ["00", "01"], "url": ["http://a", "http://b"], "status": ["success", "failed_to_download"]}
    write(tmp_path / "0.parquet", {**keys, "error_message": [None, "The read operation timed out"]})
    write(tmp_path / "1.parquet", {"of": ["others"]})
    listed = [(source.source, source.reason, source.fault) for source in TarCorpus(str(tmp_path / "*.tar")).list()]
    assert listed == [
        ("00.jpg", None, None),
        ("01.jpg", "timeout", "img2dataset: The read operation timed out"),
        ("10.jpg", None, None),
    ]
    (tmp_path / "1.parquet").write_bytes(b"x")
    with pytest.raises(MillError, match=r"1\.parquet cannot be read"):
        list(TarCorpus(str(tmp_path / "*.tar")).list())


def test_columns_are_kept_with_their_types(tmp_path: Path) -> None:
    photos = [path for path in sorted(write_photos(tmp_path / "photos", 3).rglob("*.*")) if path.suffix != ".txt"]
    values = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in photos],
        "license": ["CC", None, "CC0"],
        "similarity": pa.array([0.25, 0.5, None], pa.float32()),
        "tags": [["a"], [], None],
        "where": [{"x": 1}] * 3,
        "taken": [datetime(2024, 2, 29, 12), None, None],
        "price": [Decimal("1.50"), None, None],
    }
    path = write(tmp_path / "x.parquet", values)
    words = ("ingest", str(path), str(tmp_path / "dataset"), *AS_BUILT, "--keep-columns", "license,similarity,taken")
    for _ in range(2):
        done = command(*words, "--keep-columns", "tags,where,price")
        assert done.returncode == 0, done.stderr
    made = rows(tmp_path / "dataset", "images")
    assert [(row["license"], row["similarity"], row["tags"], row["where"]) for row in made] == [
        ("CC", 0.25, ["a"], '{"x": 1}'),
        (None, 0.5, [], '{"x": 1}'),
        ("CC0", None, None, '{"x": 1}'),
    ]
    assert [(row["taken"], row["price"]) for row in made] == [("2024-02-29 12:00:00", "1.50"), *[(None, None)] * 2]
    dataset = Dataset.open(tmp_path / "dataset")
    assert dataset.footer("images", 0).schema.field("similarity").type == pa.float32()
    assert not list(verify(dataset))
    assert "columns" in command(*words).stderr
    for column, why in (("nothing", "no column nothing"), ("image", "images has a column"), ("jpg", "no column jpg")):
        assert why in command("ingest", str(path), str(tmp_path / "d"), "--keep-columns", column).stderr


def test_a_file_that_lacks_a_kept_column_has_nulls_there_unless_all_lack_it(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", {"jpg": [b"1"], "license": ["CC"]})
    write(tmp_path / "1.parquet", {"jpg": [b"2"], "similarity": pa.array([0.5], pa.float32())})
    corpus = ParquetCorpus(str(tmp_path / "*.parquet"), parse_columns(None, None, ["similarity", "license"]))
    assert corpus.kept_types() == {"license": "string", "similarity": "float32"}
    assert [corpus.read(source, MANY).columns for source in corpus.list()] == [{"license": "CC"}, {"similarity": 0.5}]
    with pytest.raises(MillError, match="no column price; there are: jpg"):
        ParquetCorpus(corpus.address, parse_columns(None, None, ["license", "price"])).kept_types()


@pytest.mark.parametrize(
    ("values", "columns", "why"),
    [
        ({"url": ["http://x"]}, Columns(), r"no column holds the bytes of pictures; there are: url \(string\)"),
        ({"a": [b"1"], "b": [b"2"]}, Columns(), "a, b hold bytes: choose with --image-column"),
        ({"a": [b"1"], "n": [1]}, Columns(image="n"), "--image-column n is no column of pictures"),
        ({"a": [b"1"]}, Columns(caption="text"), "no column text"),
        ({"a": [b"1"], "b": [b"2"]}, parse_columns("a", None, ["b"]), "holds bytes, which are not kept"),
    ],
)
def test_tables_without_the_columns_are_errors(
    tmp_path: Path, values: dict[str, list[Any]], columns: Columns, why: str
) -> None:
    corpus = ParquetCorpus(str(write(tmp_path / "x.parquet", values)), columns)
    with pytest.raises(MillError, match=why):
        assert corpus.kept_types() is list(corpus.list())


def test_a_row_group_is_read_once_for_rows_that_follow_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By several threads, in the order of a job; other rows are found as well."""
    monkeypatch.setattr(row_groups, "BATCH_ROWS", 16)
    path = write(tmp_path / "x.parquet", {"jpg": [b"%d" % number for number in range(300)]}, group=150)
    corpus = ParquetCorpus(str(path))
    sources = list(corpus.list())
    begun, lock, opened = [0], threading.Lock(), ShardFile.iter_batches
    batches: list[pa.RecordBatch] = []

    def counted(*words: Any, **options: Any) -> Any:
        with lock:
            begun[0] += 1
        for batch in opened(*words, **options):
            batches.append(batch)
            yield batch

    monkeypatch.setattr(ShardFile, "iter_batches", counted)
    read = list(run_rows(Read(corpus), sources, 8, lambda: None))
    assert read == [b"%d" % number for number in range(300)]
    assert begun == [2]
    assert corpus.read(sources[3], MANY).data == b"3"
    assert begun == [3]
    assert max(batch.num_rows for batch in batches) == 16


def test_a_group_that_makes_room_for_another_may_be_in_use(tmp_path: Path) -> None:
    """Row groups of one row: more are in flight than are open."""
    path = write(tmp_path / "x.parquet", {"jpg": [b"%d" % number for number in range(300)]}, group=1)
    corpus = ParquetCorpus(str(path))
    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(lambda source: corpus.read(source, MANY).data, corpus.list()))
    assert read == [b"%d" % number for number in range(300)]


def test_a_cell_is_taken_within_bounds(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"jpg": [b"x" * 100, None], "text": ["a\0b", "x"]})
    corpus = ParquetCorpus(str(path))
    large, null = corpus.list()
    with pytest.raises(Refused, match="100 bytes; the cap is 99"):
        corpus.read(large, 99)
    assert "NUL" in str(corpus.read(large, 100).caption_error)
    with pytest.raises(Refused, match="its picture is null"):
        corpus.read(null, 100)


@pytest.mark.parametrize("where", ["0+9", "5+0", "x", "0+0 @../x.parquet", "0+0 @/etc/passwd"])
def test_a_listing_of_anybody_leads_nowhere(tmp_path: Path, where: str) -> None:
    path = write(tmp_path / "x.parquet", {"jpg": [b"1"]})
    with pytest.raises(Refused):
        ParquetCorpus(str(path)).read(Source("a", where if "@" in where else f"{where} @x.parquet"), MANY)


def test_a_table_that_changed_or_is_damaged_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"jpg": [bytes([number]) * 2000 for number in range(40)]}, group=40)
    corpus = ParquetCorpus(str(path))
    sources = list(corpus.list())
    damaged = bytearray(path.read_bytes())
    damaged[3000:3100] = b"?" * 100
    stamp = path.stat()
    path.write_bytes(damaged)
    assert not corpus.is_as_listed(sources[0])
    with pytest.raises(Refused, match="not as it was listed"):
        corpus.read(sources[0], MANY)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert corpus.is_as_listed(sources[0])
    with pytest.raises(Refused) as refused:
        corpus.read(sources[0], MANY)
    assert refused.value.reason == "unreadable"
    path.unlink()
    with pytest.raises(JobFault, match="run the same command again"):
        corpus.read(sources[0]._replace(etag=None, locator="0+1 @x.parquet"), MANY)


def test_a_footer_that_lies_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"jpg": [b"1"]})
    assert [data for _, data, _ in found(path)] == [b"1"]
    data = path.read_bytes()
    for bad in (data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1", b"PAR1" + data[-60:]):
        path.write_bytes(bad)
        with pytest.raises(MillError, match=r"cannot be read|damaged"):
            list(ParquetCorpus(str(path)).list())


def test_a_column_of_one_value_may_be_compressed_to_nothing(tmp_path: Path) -> None:
    path, count = tmp_path / "x.parquet", 400_000
    table = pa.table({"jpg": pa.nulls(count, pa.binary()), "score": pa.repeat(0.0, count)})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    check_file(open_storage(str(tmp_path)), path.name)


def test_the_same_pictures_as_parquet_give_the_same_pixels_and_keys(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 6)
    paths = sorted(path for path in photos.rglob("*.*") if path.suffix != ".txt")
    values = {
        "image": [{"bytes": path.read_bytes(), "path": str(path.relative_to(photos))} for path in paths],
        "text": [path.with_suffix(".txt").read_text() if path.with_suffix(".txt").exists() else None for path in paths],
    }
    write(tmp_path / "x.parquet", values)
    for address, name in ((photos, "folder"), (tmp_path / "x.parquet", "table")):
        done = command("ingest", str(address), str(tmp_path / name), *AS_BUILT)
        assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "table", "images") == rows(tmp_path / "folder", "images")
    assert str(tmp_path) not in json.dumps(rows(tmp_path / "table", "sources"))
