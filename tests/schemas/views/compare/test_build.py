"""The page of compare: what it holds, read back from its file."""

from __future__ import annotations

import html.parser
import json
import shutil
from pathlib import Path
from typing import Any

from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.views.compare.folder import picture_ending
from tests.helpers import command, rows
from tests.results import write_results
from tests.schemas.views.compare.conftest import MARKUP, bad, good


class Reader(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.data, self._in_data = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self._in_data = ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._in_data = False

    def handle_data(self, data: str) -> None:
        self.data += data if self._in_data else ""


def page_data(folder: Path) -> dict[str, Any]:
    return dict(json.loads(Reader((folder / "index.html").read_text()).data))


def compare(out: Path, *results: Path, options: tuple[str, ...] = ()) -> Path:
    ended = command("compare", *map(str, results), "--out", str(out), *options)
    assert ended.returncode == 0, ended.stderr
    return out


def test_a_page_has_every_row_with_its_pictures_and_scores(
    compared: tuple[Path, Path], dataset: Path, tmp_path: Path
) -> None:
    folder = compare(tmp_path / "page", *compared)
    data = page_data(folder)
    images = rows(dataset, "images")
    assert [result["name"] for result in data["results"]] == ["good", "poor"]
    assert [row[0] for row in data["rows"]] == [image["source"] for image in images]
    assert [(row, kind) for row, kind, _, _ in data["slots"]] == [(r, k) for r in range(10) for k in ("none", "user")]
    for row, kind, _, cells in data["slots"]:
        for (picture, found, scores, prompt, fault), score in zip(
            cells, (good(row, kind), bad(row, kind)), strict=True
        ):
            assert scores == [score, None if score is None else 1 - score]
            assert decode_image((folder / picture).read_bytes()).shape == (128, 128, 3)
            assert (folder / found).read_bytes() == rows(dataset, "canny")[row]["map"]["bytes"]
            assert prompt == (f"scene {row} {MARKUP}" if kind == "user" else "")
            assert fault == ("failed: <b>no map</b>" if score is None else "")
    source, canny = data["rows"][3][3:]
    assert (folder / source).read_bytes() == images[3]["image"]["bytes"]
    assert (folder / canny).read_bytes() == rows(dataset, "canny")[3]["map"]["bytes"]
    assert data["published"][0]["values"] == [[0.3465, 0.01], None, None]
    assert [measure["single"] for measure in data["measures"]] == [True, True, False]  # no picture has a FID
    assert [measure["why"] for measure in data["measures"]] == ["", "", "no single picture has one"]
    values = [one["value"] for one in json.loads((compared[1] / "results.json").read_text())["measures"][0]["values"]]
    assert [kind[0][0] for kind in data["values"][1]] == values
    assert [kind[0][4:] for kind in data["values"][1]] == [[0.1, 0.95]] * 2


def test_a_page_loads_nothing_from_elsewhere_and_takes_no_text_for_markup(
    compared: tuple[Path, Path], tmp_path: Path
) -> None:
    text = (compare(tmp_path / "page", *compared) / "index.html").read_text()
    read = Reader(text)
    assert read.tags.count("script") == 2  # the data and ours
    assert "img" not in read.tags
    assert set(read.addresses) == {"#grid"}
    assert "://" not in text
    assert "default-src 'none'" in text


def test_rows_can_be_fewer_and_a_page_is_made_again_in_its_place(compared: tuple[Path, Path], tmp_path: Path) -> None:
    out = compare(tmp_path / "page", *compared)
    data = page_data(compare(out, compared[0], options=("--rows", "3")))
    assert (len(data["rows"]), len(data["slots"]), len(data["results"])) == (3, 6, 1)
    assert not (out / "pictures" / "1").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_what_cannot_be_compared_is_told_and_nothing_is_written(
    compared: tuple[Path, Path], dataset: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    one, two = map(str, compared)
    for words, said in (
        ((one, str(dataset), "--out", "OUT"), "has no results.json"),
        ((one, "nope", "--out", "OUT"), "nope is not a folder of results; make one with: controlmill evaluate"),
        ((one, one, "--out", "OUT"), "the same results are named twice"),
        ((one, two, "--out", ""), "--out : must be a folder"),
        ((one, two, "--out", str(tmp_path / "full")), "is not empty"),
        ((one, two, "--out", "OUT", "--source", str(tmp_path)), "is not a dataset"),
        ((one, two, "--out", "OUT", "--source", one), "does not have the pictures that the results were made for"),
    ):
        ended = command("compare", *(word.replace("OUT", str(tmp_path / "out")) for word in words))
        assert ended.returncode == 1, words
        assert said in ended.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "full" / "mine.txt").read_text() == "kept"


def test_results_without_a_judge_have_pictures_and_no_scores(
    compared: tuple[Path, Path], dataset: Path, tmp_path: Path
) -> None:
    unjudged = write_results(tmp_path / "unjudged", dataset, good, kinds=("none",), is_judged=False)
    data = page_data(compare(tmp_path / "page", unjudged))
    assert (data["columns"], [one["name"] for one in data["measures"]]) == ([], ["fid"])
    assert all(
        picture and (found, scores, fault) == (None, [], "") for picture, found, scores, _, fault in cells_of(data)
    )
    data = page_data(compare(tmp_path / "both", compared[0], unjudged))
    assert [[cell and cell[2] for cell in cells] for _, _, _, cells in data["slots"][:2]] == [
        [[0.9, 1 - 0.9], [None, None]],
        [[0.9, 1 - 0.9], None],  # it has no picture with the row's own prompt
    ]


def cells_of(data: dict[str, Any]) -> list[Any]:
    return [cell for _, _, _, cells in data["slots"] for cell in cells]


def test_bytes_that_are_no_picture_have_no_file(dataset: Path) -> None:
    assert picture_ending(b"<svg onload='x'></svg>") is None
    assert picture_ending(b"") is None
    assert picture_ending(rows(dataset, "canny")[0]["map"]["bytes"]) == "png"
    assert {picture_ending(row["image"]["bytes"]) for row in rows(dataset, "images")} <= {"png", "jpg", "webp"}
