"""The page says what came out, and plainly what was not run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from recipes.reproduce.claims import claims
from recipes.reproduce.experiments import Training, trainings
from recipes.reproduce.page import page_text, write_page
from recipes.reproduce.training import Scale
from tests.recipes.reproduce.results import result_of

MEASURED = {"half": {"first: agreement": 0.4, "first: followed": 0.9, "all: followed": 0.95}}
CLAIM = "control on the first half of the iterations is enough to follow the map"


def of_main(seeds: int) -> list[Training]:
    return [training for training in trainings() if training.group == "main" and training.rate == 1e-3][:seeds]


def line_with(text: str, start: str, cell: str = "| ") -> str:
    (found,) = [line for line in text.splitlines() if line.startswith(cell + start)]
    return found


def test_nothing_was_run() -> None:
    text = page_text([], trainings(), Scale())
    assert f"**0 of {len(trainings())} trainings are finished**" in text
    assert not re.findall(r"\*\*(reproduced|not reproduced|undecided)\*\*", text)
    for claim in claims():
        assert line_with(text, "No result yet: ", "").count(claim.text) == 1
    assert line_with(text, "architecture-canny-lite-1000rows-3e-4").endswith("| 0 of 5 | 1,500 | 0, 1, 2, 3, 4 |")


def test_what_all_take_is_told_by_the_seconds_of_what_is_finished() -> None:
    results = [result_of(training) for training in of_main(2)]
    for factor, hours in (1, 6), (10, 61):  # 129,408 passes in 600 s, of 9,534,912, two side by side
        ended = [replace(result, seconds=factor * result.seconds) for result in results]
        text = page_text(ended, trainings(), Scale()).replace("\n", " ")
        assert f"All 69 together take about {hours} hours with two side by side, at the pace of those" in text


def test_three_seeds_decide_and_the_rest_is_listed() -> None:
    results = [result_of(training, MEASURED, jump=400 + 10 * training.seed) for training in of_main(3)]
    text = page_text(results, trainings(), Scale())
    assert line_with(text, CLAIM).endswith("| 3 | 0.400, 0.400 to 0.400 | **reproduced** |")
    assert line_with(text, "control appears suddenly, at rate 0.001").endswith("**reproduced** |")
    assert line_with(text, "main-canny |").endswith("| 3 of 8 | 1,000 | 3, 4, 5, 6, 7 |")
    assert CLAIM not in line_with(text, "No result yet: ", "")
    assert "| first: followed | 0.900 ± 0.000 |" in text
    assert "± is the standard deviation over seeds" in text.replace("\n", " ")
    two = page_text(results[:2], trainings(), Scale())
    assert line_with(two, CLAIM).endswith("| 2 | 0.400 | **undecided** |")


def test_the_figure_is_drawn_beside_the_page(tmp_path: Path) -> None:
    page = tmp_path / "reproduce.md"
    write_page(page, [result_of(training, MEASURED, jump=400) for training in of_main(1)], trainings(), Scale())
    assert "![curves](reproduce/curves.png)" in page.read_text()
    assert (tmp_path / "reproduce" / "curves.png").stat().st_size > 1000
