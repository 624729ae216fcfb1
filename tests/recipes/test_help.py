"""The recipes' command lines."""

from __future__ import annotations

from importlib import import_module

import pytest

MODULES = {"demo": "recipes.demo", "reproduce": "recipes.reproduce.__main__", "tiny_base": "recipes.tiny_base.make"}


@pytest.mark.parametrize("recipe", MODULES)
def test_a_recipe_explains_its_arguments(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [recipe, "--help"])
    module = import_module(MODULES[recipe])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert f"usage: python -m recipes.{recipe} " in capsys.readouterr().out
