"""A study in Chromium: answered by keys and by clicks, left and gone on with, saved to a file that is scored."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import command
from tests.schemas.views.compare.browser import open_page
from tests.schemas.views.compare.conftest import MARKUP
from tests.schemas.views.compare.test_compare_in_a_browser import press

pytestmark = pytest.mark.long


@pytest.fixture
def study(compared: tuple[Path, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    ended = command("study", "make", *map(str, compared), "--out", str(folder), "--questions", "3", "--prompts", "user")
    assert ended.returncode == 0, ended.stderr
    return folder


def test_a_participant_ranks_pictures_and_saves_the_answers(study: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    key = json.loads((study / "key.json").read_text())
    methods = {token: method for question in key["questions"] for token, method in question["pictures"].items()}
    wanted = []

    def letter_of(browser: Any, method: str) -> str:
        tokens = browser.execute_script("return step().order")
        return "ab"[[methods[token] for token in tokens].index(method)]

    with open_page(study / "page" / "index.html", study / "answers") as browser:
        browser.find_element("id", "name").send_keys("Ann & <Bo>")
        browser.find_element("id", "begin").click()
        assert not browser.find_element("id", "given").is_displayed()  # quality is judged without the map
        prompt = browser.find_element("id", "prompt").text
        assert MARKUP.split()[0] in prompt
        press(browser, letter_of(browser, "good"), Keys.BACKSPACE, letter_of(browser, "poor"))
        assert browser.find_element("css selector", "#choices [aria-pressed=true] em").text in ("best", "worst")
        press(browser, Keys.BACKSPACE)
        for number in range(6):
            method = "poor" if number == 0 else "good"
            assert not browser.find_element("id", "next").is_enabled()
            if number % 2:
                at = "ab".index(letter_of(browser, method))
                browser.find_elements("css selector", "#choices button")[at].click()
            else:
                press(browser, letter_of(browser, method))
            wanted.append((browser.execute_script("return [step().question, step().criterion]"), method))
            press(browser, Keys.ENTER)
            if number == 3:
                browser.refresh()
                assert browser.find_element("id", "progress-text").text == "4 of 6"
                assert browser.find_element("id", "given").is_displayed()
        browser.find_element("id", "save-all").click()
        deadline = time.monotonic() + 30
        while not (saved := list((study / "answers").glob("*.json"))) and time.monotonic() < deadline:
            time.sleep(0.1)
    (path,) = saved
    answers = json.loads(path.read_text())
    assert answers["name"] == "Ann & <Bo>"
    assert sorted(wanted) == sorted(
        ([one["question"], key["criteria"].index(one["criterion"])], methods[one["ranking"][0]])
        for one in answers["answers"]
    )
    ended = command("study", "score", str(path), "--json")
    found = {(one["method"], one["criterion"]): one["average"] for one in json.loads(ended.stdout)["rankings"]}
    assert found["good", "fidelity"] == 2
    assert found["good", "quality"] == pytest.approx(5 / 3)
