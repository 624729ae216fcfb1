"""Options dataclasses: their fields are a command's flags, and their values are checked at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from controlmill.schemas.errors import MillError
from controlmill.schemas.terminal.options import Given, check, from_values, option, with_options
from controlmill.schemas.terminal.ranges import Range


@dataclass(frozen=True)
class Shape:
    """One field of each type."""

    side: int = option(512, "Side in pixels.", within=Range(64, 8192, multiple_of=8), panel="Sizes")
    scale: float = option(1.0, "Scale.", within=Range(0, 2, open_low=True))
    limit: int | None = option(None, "Limit.", within=Range(1))
    fit: Literal["crop", "none"] = option("crop", "Fit.")
    name: str = option("", "Name.", pattern="[a-z]*", possible="lower case", panel="Names")
    folder: Path | None = option(None, "Folder.")
    tags: tuple[str, ...] = option((), "Tags, in [brackets].")
    lines: list[str] = option([], "Lines.")
    fast: bool = option(False, "Fast.")

    def conflicts(self) -> Iterable[str]:
        if self.fast and self.fit == "none":
            yield "--fast needs --fit crop"


@dataclass(frozen=True)
class Target:
    """A field that has no default, and one that has."""

    out: str = option(..., "Folder.", pattern=".+", possible="a folder")
    count: int = option(1, "Count.")


@dataclass
class Ran:
    """What the command of :func:`app` was called with."""

    values: list[Any] = field(default_factory=list)


def app(ran: Ran) -> typer.Typer:
    def draw(photo: str, shape: Shape, count: int = 1) -> None:
        """Draw."""
        ran.values += [photo, shape, count]

    def settings(given: Annotated[dict[str, Any], Given(Shape)]) -> None:
        """Settings."""
        ran.values.append(given)

    made = typer.Typer()
    for command in (draw, settings):
        made.command()(with_options(command))
    return made


def test_flags_fill_the_dataclass_and_what_is_not_given_has_its_default() -> None:
    ran = Ran()
    words = "draw x.png --side 64 --limit 3 --tags a --tags b --lines c --fast --folder there --count 2"
    done = CliRunner().invoke(app(ran), words.split())
    assert done.exception is None, done.exception
    assert ran.values == ["x.png", Shape(64, limit=3, tags=("a", "b"), lines=["c"], fast=True, folder=Path("there")), 2]
    ran.values.clear()
    CliRunner().invoke(app(ran), ["draw", "x.png"])
    assert ran.values == ["x.png", Shape(), 1]


def test_only_what_was_given_is_in_a_dict_even_where_it_is_the_default() -> None:
    ran = Ran()
    CliRunner().invoke(app(ran), ["settings", "--side", "512", "--no-fast"])
    assert ran.values == [{"side": 512, "fast": False}]


def test_all_faults_are_named_at_once_before_the_command_runs() -> None:
    ran = Ran()
    words = "draw x --side 65 --scale nan --limit 0 --fit square --name A"
    done = CliRunner().invoke(app(ran), words.split())
    assert isinstance(done.exception, MillError)
    assert str(done.exception).split("\n  ") == [
        "--side 65: must be from 64 to 8192, in multiples of 8",
        "--scale nan: must be a finite number",
        "--limit 0: must be 1 or more",
        "--fit square: must be one of crop, none",
        "--name A: must be lower case",
    ]
    assert ran.values == []
    with pytest.raises(MillError, match=r"^--fast needs --fit crop$"):
        check(Shape(fast=True, fit="none"))


def test_help_has_panels_defaults_and_bounds() -> None:
    shown = CliRunner().invoke(app(Ran()), ["draw", "--help"], env={"COLUMNS": "120"}).stdout
    assert shown.index("Sizes") < shown.index("--side") < shown.index("Names") < shown.index("--name")
    assert "Side in pixels. From 64 to 8192, in multiples of 8. [default: 512]" in shown
    assert "crop|none" in shown
    assert "Tags, in [brackets]." in shown


def test_what_has_no_default_must_be_given() -> None:
    found: list[Target] = []

    def write(target: Target) -> None:
        found.append(target)

    made = typer.Typer()
    made.command()(with_options(write))
    assert "[required]" in CliRunner().invoke(made, ["--help"]).stdout
    assert "Missing option '--out'" in CliRunner().invoke(made, []).stderr
    assert str(CliRunner().invoke(made, ["--out", ""]).exception) == "--out : must be a folder"
    assert not found
    CliRunner().invoke(made, ["--out", "there"])
    assert found == [Target("there")]


def test_values_of_a_file_have_names_and_types_of_fields() -> None:
    assert from_values(Shape, {"side": 64, "scale": 1, "lines": ["a"]}, "x.toml") == Shape(64, 1, lines=["a"])
    with pytest.raises(MillError) as found:
        from_values(Shape, {"sides": 64, "side": "64", "fast": 1, "scale": True}, "x.toml")
    assert set(str(found.value).split("\n  ")) == {
        f"x.toml: no setting sides; there are: {', '.join(Shape.__dataclass_fields__)}",
        "x.toml: side = '64': must be a whole number",
        "x.toml: fast = 1: must be true or false",
        "x.toml: scale = True: must be a number",
    }
