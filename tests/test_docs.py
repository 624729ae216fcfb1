"""What the README and the docs show can be typed: every command's options exist and take what they are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from controlmill.__main__ import app

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"^    (?:accelerate launch -m )?controlmill (.+)$", re.MULTILINE)
CONTINUED = re.compile(r"\s*\\\n\s+")
BEAM_OPTION = re.compile(r"--beam-option\s+(\w+)=")
SHOWN = [
    (path.name, command)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for line in COMMAND.findall(CONTINUED.sub(" ", path.read_text("utf-8")))
    for command in line.split(" || controlmill ")
]


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[command for _, command in SHOWN])
def test_a_command_that_is_shown_is_understood(page: str, words: str) -> None:
    command = typer.main.get_command(app)
    name, arguments = "controlmill", [word for word in shlex.split(words, comments=True) if word != "…"]
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(command.context_class(command), arguments)
    command.make_context(name, arguments)


def test_commands_are_found_in_the_pages() -> None:
    assert len(SHOWN) > 20


def test_beams_options_that_are_shown_exist() -> None:
    from apache_beam.options.pipeline_options import PipelineOptions

    known = PipelineOptions([]).get_all_options()
    shown = {name for path in (ROOT / "docs").glob("*.md") for name in BEAM_OPTION.findall(path.read_text("utf-8"))}
    assert "number_of_worker_harness_threads" in shown
    assert shown <= known.keys()
