"""A blind study of results, and what its answers come to."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.views.compare.folder import picture_ending
from controlmill.schemas.views.compare.study import blind
from tests.helpers import command, rows
from tests.schemas.views.compare.test_build import page_data


@pytest.fixture
def study(compared: tuple[Path, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    ended = command("study", "make", *map(str, compared), "--out", str(folder), "--questions", "4", "--prompts", "user")
    assert ended.returncode == 0, ended.stderr
    return folder


def answer(study: Path, participant: int, chosen: list[list[str]], name: str = "") -> Path:
    """Answers of a participant by quality: of each question the methods, the best first."""
    key = json.loads((study / "key.json").read_text())
    answers = []
    for number, methods in enumerate(chosen):
        token = {method: token for token, method in key["questions"][number]["pictures"].items()}
        ranking = [token[method] for method in methods]
        answers.append({"question": number, "criterion": "quality", "ranking": ranking})
    told = {
        "version": 1,
        "study": key["study"],
        "participant": f"{participant:016x}",
        "name": "Ann",
        "answers": answers,
    }
    path = study / "answers" / f"{name or participant}.json"
    path.write_text(json.dumps(told))
    return path


def scores(*paths: Path) -> dict[str, Any]:
    ended = command("study", "score", *map(str, paths), "--json")
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_a_page_shows_all_pictures_of_a_question_and_nothing_of_whose_they_are(
    study: Path, compared: tuple[Path, Path], dataset: Path
) -> None:
    key, data = json.loads((study / "key.json").read_text()), page_data(study / "page")
    assert len(data["questions"]) == len(key["questions"]) == 4
    assert len({(one["shard"], one["row"]) for one in key["questions"]}) == 4
    stored = {path.name: rows(path, "images") for path in compared}
    sources = rows(dataset, "canny")
    for question, known in zip(data["questions"], key["questions"], strict=True):
        assert sorted(known["pictures"].values()) == ["good", "poor"]
        files = dict(question["pictures"])
        for token, method in known["pictures"].items():
            (image,) = [
                row
                for row in stored[method]
                if (row["of_shard"], row["of_row"], row["prompt_kind"]) == (known["shard"], known["row"], "user")
            ]
            assert (study / "page" / files[token]).read_bytes() == image["image"]["bytes"]
            assert question["prompt"] == image["caption"]
        assert (study / "page" / question["given"]).read_bytes() in [row["map"]["bytes"] for row in sources]
        assert [token for token, _ in question["pictures"]] == sorted(files)  # tokens are drawn: no order of methods
    for path in (study / "page").rglob("*"):
        assert "good" not in path.name and "poor" not in path.name  # names no random hexadecimal digits can spell
    told = json.dumps(data).replace("How good does each picture look?", "")
    assert "good" not in told and "poor" not in told


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_tells_neither_its_format_nor_what_is_written_in_it(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    said, text = io.BytesIO(), PngInfo()
    text.add_text("parameters", "a method, steps 20")
    options = {"pnginfo": text} if kind == "PNG" else {"lossless": True} if kind == "WEBP" else {"comment": "a method"}
    Image.fromarray(pixels).save(said, kind, **options)
    made = blind(said.getvalue())
    assert picture_ending(made) == "png"
    assert b"a method" in said.getvalue() or kind == "WEBP"
    assert b"a method" not in made
    np.testing.assert_array_equal(decode_image(made), decode_image(said.getvalue()))


def test_the_same_seed_draws_the_same_rows_and_another_one_others(compared: tuple[Path, Path], tmp_path: Path) -> None:
    drawn = []
    for number, seed in enumerate("001"):
        out = tmp_path / str(number)
        words = ("--questions", "5", "--seed", seed, "--out", str(out))
        assert command("study", "make", *map(str, compared), *words).returncode == 0
        drawn.append([(one["shard"], one["row"]) for one in json.loads((out / "key.json").read_text())["questions"]])
    assert drawn[0] == drawn[1] != drawn[2]


def test_average_rankings_and_their_deviation_over_participants(study: Path) -> None:
    good, bad = ["good", "poor"], ["poor", "good"]
    chosen = [[good, good, good, good], [good, good, bad, bad], [good, bad]]
    found = scores(*(answer(study, number, those) for number, those in enumerate(chosen)))
    averages = [np.mean([2 if one is good else 1 for one in those]) for those in chosen]
    assert found["participants"] == 3
    first, second = found["rankings"]
    assert (first["method"], first["criterion"], first["participants"], first["rankings"]) == ("good", "quality", 3, 10)
    assert first["average"] == pytest.approx(np.mean(averages))
    assert first["deviation"] == pytest.approx(np.std(averages, ddof=1))
    assert second["average"] == pytest.approx(3 - first["average"])
    assert scores(answer(study, 9, chosen[1]))["rankings"][0]["deviation"] is None


def test_a_participant_counts_once(study: Path) -> None:
    good, bad = ["good", "poor"], ["poor", "good"]
    early, late = answer(study, 1, [bad], "early"), answer(study, 1, [good, good], "late")
    assert scores(early, late) == scores(late, early) == scores(late)
    ended = command("study", "score", str(early), str(late))
    assert "2.00" in ended.stdout
    assert f"{early}: left out" in ended.stderr.replace("\n", "")


def test_answers_that_do_not_fit_are_told(study: Path, compared: tuple[Path, Path], tmp_path: Path) -> None:
    path = answer(study, 1, [["good", "poor"]])
    whole = json.loads(path.read_text())
    token = whole["answers"][0]["ranking"][0]
    for change, said in (
        ({"study": "0" * 16}, "answers of another study"),
        ({"version": 2}, "is of version 2"),
        ({"more": 1}, "is damaged"),
        ({"answers": [{"question": 9, "criterion": "quality", "ranking": []}]}, "question 9 by quality is not in"),
        ({"answers": [{"question": 0, "criterion": "taste", "ranking": []}]}, "question 0 by taste is not in"),
        ({"answers": [{"question": 0, "criterion": "quality", "ranking": [token] * 2}]}, "rank its pictures once each"),
        ({"answers": [{"question": 0, "criterion": "quality", "ranking": [token]}]}, "rank its pictures once each"),
        ({"answers": whole["answers"] * 2}, "a question is answered twice"),
    ):
        path.write_text(json.dumps({**whole, **change}))
        ended = command("study", "score", str(path))
        assert ended.returncode == 1, said
        assert said in ended.stderr
    path.write_text("[" * 100_000)
    assert "is damaged" in command("study", "score", str(path)).stderr
    elsewhere = tmp_path / "x" / "answers" / "y.json"
    assert f"{elsewhere}: no such file of answers" in command("study", "score", str(elsewhere)).stderr
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(json.dumps(whole))
    assert "name the study's key.json by --key" in command("study", "score", str(elsewhere)).stderr
    one, two = map(str, compared)
    for words, said in (
        ((one, "--out", str(tmp_path / "new")), "a study ranks the pictures of 2 to 9 results, not of 1"),
        ((one, two, "--out", str(study), "--questions", "4"), "is not empty, and answers may be in it"),
        ((one, two, "--out", str(tmp_path / "new"), "--questions", "11"), "--questions 11 are too many"),
    ):
        ended = command("study", "make", *words)
        assert said in ended.stderr
    assert not (tmp_path / "new").exists()
