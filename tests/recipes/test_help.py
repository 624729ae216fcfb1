"""The recipes' command lines."""

from __future__ import annotations

from importlib import import_module

import pytest


@pytest.mark.parametrize("recipe", ["demo", "reproduce", "tiny_base"])
def test_a_recipe_explains_its_arguments(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [recipe, "--help"])
    module = import_module(f"recipes.{recipe}.make" if recipe == "tiny_base" else f"recipes.{recipe}")
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert f"usage: python -m recipes.{recipe} " in capsys.readouterr().out
