"""Lists of URLs: what is listed, and a whole job."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.pipelines.corpora.columns import Columns, parse_columns
from controlmill.pipelines.corpora.download_options import DownloadOptions
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.pipelines.corpora.passed_over import PassedOver
from controlmill.pipelines.ingestion import ingest
from controlmill.schemas.errors import MillError
from tests.helpers import SMALL, KeptResources, command, digests, make, rows, write_photos
from tests.pipelines.corpora.hostile_server import Handler, plain, serving

ONE, TWO = "https://host.example/photos/a/1.jpg", "https://host.example/photos/b/2.jpg"


def listed(path: Path, columns: Columns | None = None, passed: PassedOver | None = None) -> list[Any]:
    """The sources of a list."""
    return list(open_corpus(str(path), columns or Columns()).list(passed))


WRITTEN = {
    "urls.txt": f"{ONE}\n\n{TWO}\n",
    "urls.csv": f'URL,caption,score\n{ONE},"one, ""two""\nthree",1\n{TWO},,2\n',
    "urls.tsv": f'TEXT\turl\tscore\n"one, ""two""\nthree"\t{ONE}\t1\n\t{TWO}\t2\n',
    "urls.jsonl": json.dumps({"image_url": ONE, "text": 'one, "two"\nthree', "score": 1})
    + "\n"
    + json.dumps({"image_url": TWO, "text": None, "score": 2}),
}


@pytest.mark.parametrize("name", [*WRITTEN, "urls.txt.gz", "urls.csv.gz", "urls.parquet"])
def test_lists_of_every_kind_say_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "urls.parquet":
        table = {
            "url": [ONE, TWO],
            "caption": ['one, "two"\nthree', None],
            "score": [1, 2],
            "embedding": [[0.5], [1.5]],
        }
        pq.write_table(pa.table(table), path, row_group_size=1)
    elif name == "urls.tsv":  # a tab-separated file has one line for a record
        path.write_text(WRITTEN[name].replace("\nthree", ""))
    else:
        text = WRITTEN[name.removesuffix(".gz")].encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found = listed(path, Columns(kept=(("score", "int64"),)))
    assert [source.source for source in found] == ["a/1.jpg", "b/2.jpg"]
    assert [source.locator for source in found] == [ONE, TWO]
    if "txt" not in name:
        caption = 'one, "two"' if name == "urls.tsv" else 'one, "two"\nthree'
        assert [source.caption for source in found] == [caption, None]
        assert [int(json.loads(source.columns)["score"]) for source in found] == [1, 2]


def test_columns_are_those_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "urls.csv"
    path.write_text(f"url,link,caption,alt\nhttp://no/1,{ONE},no,yes\n")
    (found,) = listed(path, Columns("link", "alt"))
    assert (found.locator, found.caption) == (ONE, "yes")


@pytest.mark.parametrize("name", ["urls.csv", "urls.tsv", "urls.jsonl"])
def test_a_list_without_urls_is_an_error_that_names_its_columns(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text('{"address": "x"}\n' if name == "urls.jsonl" else f"address\n{ONE}\n")
    with pytest.raises(MillError, match=r"no column url .*--image-column \(there are: address"):
        listed(path)


@pytest.mark.parametrize("name", ["urls.csv", "urls.tsv", "urls.parquet"])
@pytest.mark.parametrize("columns", [Columns(caption="nothing"), Columns(kept=(("url", ""), ("nothing", "")))])
def test_a_table_of_urls_without_the_chosen_columns_is_an_error(name: str, columns: Columns, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "urls.parquet":
        pq.write_table(pa.table({"url": [ONE], "text": ["x"]}), path)
    else:
        path.write_text(f"url{',' if name == 'urls.csv' else chr(9)}text\n")
    corpus = open_corpus(str(path), columns)
    with pytest.raises(MillError, match=rf"{name}: no column nothing \(there are: url, text\)"):
        assert corpus.kept_types() is list(corpus.list())


def test_columns_of_a_parquet_list_have_the_types_that_they_have_beside_pictures(tmp_path: Path) -> None:
    path, values = tmp_path / "x.parquet", {"similarity": [0.5], "tags": [["a"]], "at": [datetime(2024, 2, 29)]}
    pq.write_table(pa.table({"url": [ONE], "jpg": [b"x"], **values}), path)
    kept = parse_columns(None, None, ["similarity,tags,at"])
    types = [open_corpus(str(path), replace(kept, image=image)).kept_types() for image in ("url", "jpg")]
    assert types == [{"similarity": "float64", "tags": "list<string>", "at": "string"}] * 2


@pytest.mark.parametrize("name", ["urls.parquet", "urls.txt.gz", "urls.txt"])
def test_a_list_that_is_damaged_is_an_error(name: str, tmp_path: Path) -> None:
    data = b"\xff\xfe\0\xd8a\0" if name == "urls.txt" else b"\x1f\x8b\x08 not what it says"
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MillError, match=f"{name}.* (cannot be read|is damaged)"):
        listed(tmp_path / name)


def test_a_quote_that_swallows_the_rest_of_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "urls.csv"
    path.write_text(f'url,caption\n{ONE},one\n{TWO},"two\n' + f"{ONE},{'x' * 1000}\n" * 200)
    with pytest.raises(MillError, match=r"urls.csv cannot be read: line \d+: field larger than .*: a quote that is"):
        listed(path)


def test_every_line_is_a_source_or_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "urls.jsonl"
    lines = [{"url": ONE, "caption": 5}, {"url": None}, {"url": 7}, {"url": "file:///etc/passwd"}, {"url": TWO}, [], {}]
    path.write_bytes(b"\n".join(json.dumps(line).encode() for line in lines) + b'\nno json\n{"url": "http://h/\xff"}\n')
    passed = PassedOver()
    found = listed(path, passed=passed)
    assert [source.source for source in found if not source.fault] == ["a/1.jpg", "b/2.jpg"]
    refused = [source for source in found if source.fault]
    assert len(refused) == 7
    assert {source.reason for source in refused} == {"refused_address"}
    assert [source.source for source in refused][:3] == [
        "urls.jsonl, line 2",
        "urls.jsonl, line 3",
        "file:///etc/passwd",
    ]
    assert passed.notes == [
        "urls.jsonl, line 1: its caption cannot be read: caption: neither a text nor a list of texts but a number"
    ]
    for source in found:
        assert "".join(text for text in source if isinstance(text, str)).encode()


def test_several_lists_are_one_corpus(tmp_path: Path) -> None:
    for number, url in enumerate((ONE, TWO)):
        (tmp_path / f"{number}.txt").write_text(url)
    assert [source.source for source in listed(tmp_path / "{0..1}.txt")] == ["a/1.jpg", "b/2.jpg"]
    assert [source.source for source in listed(tmp_path / "*.txt")] == ["a/1.jpg", "b/2.jpg"]


def test_a_list_of_other_urls_is_not_the_one_that_was_listed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{ONE}\n{TWO}")
    (tmp_path / "b.txt").write_text(TWO.replace("2.jpg", "3.jpg"))
    corpora = [open_corpus(str(tmp_path / name)) for name in ("a.txt", "b.txt")]
    (source, _) = corpora[0].list()
    assert [corpus.is_as_listed(source) for corpus in corpora] == [True, False]


def test_a_parquet_file_is_a_list_where_it_holds_urls_and_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for table, columns, kind in (
        ({"url": [ONE]}, Columns(), "urls"),
        ({"url": [ONE], "jpg": [b"x"]}, Columns(), "parquet"),
        ({"url": [ONE], "jpg": [b"x"]}, Columns("url"), "urls"),
        ({"url": [ONE], "photo": [{"bytes": b"x"}]}, Columns(), "parquet"),
        ({"url": [ONE], "phash": [b"x"]}, Columns("url"), "urls"),
        ({"url": [ONE], "phash": [b"x"]}, Columns("phash"), "parquet"),
        ({"link": [ONE]}, Columns("link"), "urls"),
        ({"link": [ONE]}, Columns(), "parquet"),
    ):
        pq.write_table(pa.table(table), path)
        assert open_corpus(str(path), columns).kind == kind
    pq.write_table(pa.table({"url": [ONE], "phash": [b"x"], "md5": [b"x"]}), path)
    with pytest.raises(MillError, match=r"url holds URLs, and phash, md5 hold bytes: choose with --image-column"):
        open_corpus(str(path))


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt.gz"])
def test_a_text_without_a_url_is_no_list(name: str, tmp_path: Path) -> None:
    text = b"hi\nhttp://\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.raises(MillError, match=f"^{name}: no line is an http\\(s\\) URL$"):
        listed(tmp_path / name)
    (tmp_path / "one.txt").write_text(f"hi\n{ONE}\n")
    assert [source.reason for source in listed(tmp_path / "one.txt")] == ["refused_address", None]


# a whole job


def test_what_was_listed_from_a_list_of_faults_is_not_taken_for_another_corpus(tmp_path: Path) -> None:
    """None of its lines can be looked for in the other corpus: its address tells."""
    lists = [tmp_path / name for name in ("a.csv", "b.csv")]
    for path in lists:
        path.write_text("url\nhi\n")
    photos, dataset = write_photos(tmp_path / "photos", 1), str(tmp_path / "dataset")
    ended = command("build", str(lists[0]), dataset)
    assert ended.returncode == 0, ended.stderr
    assert f"warning: no picture was kept; `controlmill inspect {dataset} --rejects 20` says why" in ended.stderr
    assert "annotate: 1 image in 1 shard\n" in ended.stderr
    assert "\n1 file: 0 kept, 1 refused" in ended.stderr
    for other in (photos, lists[1]):
        ended = command("build", str(other), dataset)
        assert ended.returncode == 1, ended.stdout
        assert f"{other} is not the corpus that {dataset} was listed from ({lists[0]}); choose an" in ended.stderr
    ended = command("build", str(lists[0]), dataset)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith(f"1 picture, listed from {lists[0]}; ")
    ended = command("build", str(lists[0]), dataset, "--dry-run")
    assert ended.stderr.splitlines()[1] == "1 picture listed before, in 1 shard"


def test_urls_give_the_rows_that_their_files_give(tmp_path: Path) -> None:
    """The same pictures, keys and maps as the folder's; what is refused has its reason; a rerun asks for nothing."""
    photos = write_photos(tmp_path / "photos", 8)
    make(photos, tmp_path / "folder", "canny")
    pictures = [path for path in sorted(photos.rglob("*")) if path.is_file() and path.suffix != ".txt"]
    answers = {f"/corpus/{path.relative_to(photos)}": plain(200, path.read_bytes()) for path in pictures}
    answers["/corpus/noai.jpg"] = plain(200, pictures[0].read_bytes(), X_Robots_Tag="noai")
    with serving(answers) as server:
        urls = tmp_path / "urls.txt"
        urls.write_text(
            "".join(f"{server.url}{path}\n" for path in answers) + f"{server.url}/corpus/no.jpg\nftp://h/a\n"
        )
        words = ("build", str(urls), str(tmp_path / "urls"), "--resolution", "128", "--min-side", "16")
        words += ("--max-megapixels", "1", "--shard-size", "4", "--allow-private-hosts")
        ended = command(*words)
        assert ended.returncode == 0, ended.stderr
        requests, made = sum(server.requests.values()), digests(tmp_path / "urls")
        again = command(*words)
        assert again.returncode == 0, again.stderr
        assert (sum(server.requests.values()), digests(tmp_path / "urls")) == (requests, made)
        other = command(*words[:-1])
        assert other.returncode != 0
        assert "--allow-private-hosts" in other.stderr
    reasons = Counter(row["reason"] for row in rows(tmp_path / "urls", "rejected"))
    assert reasons == {"opted_out": 1, "http_error": 1, "refused_address": 1}
    for table, columns in (("images", ("key", "source", "image", "sha256")), ("canny", ("key", "map"))):
        found, wanted = (
            {row["key"]: [row[name] for name in columns] for row in rows(tmp_path / kind, table)}
            for kind in ("urls", "folder")
        )
        assert found == wanted
        assert len(found) == len(pictures)
    assert str(server.server_address[1]) not in (tmp_path / "urls" / "dataset.json").read_text()


def test_a_slow_answer_does_not_hold_up_the_next_shard(tmp_path: Path) -> None:
    """The first shard's picture is given when the second one's was asked for."""
    (picture,) = (path.read_bytes() for path in write_photos(tmp_path / "photos", 1).rglob("*.jpg"))
    asked = threading.Event()

    def first(handler: Handler) -> None:
        plain(200 if asked.wait(20) else 404, picture)(handler)

    def second(handler: Handler) -> None:
        asked.set()
        plain(200, picture)(handler)

    with serving({"/c/1.jpg": first, "/c/2.jpg": second}) as server:
        (tmp_path / "urls.txt").write_text(f"{server.url}/c/1.jpg\n{server.url}/c/2.jpg\n")
        config = replace(SMALL, downloads=DownloadOptions(timeout=60, allow_private_hosts=True))
        with KeptResources(threads=1) as resources:
            ingest(str(tmp_path / "urls.txt"), str(tmp_path / "dataset"), config, resources, shard_size=1)
    assert [row["source"] for row in rows(tmp_path / "dataset", "images")] == ["1.jpg", "2.jpg"]
