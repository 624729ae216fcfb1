"""Imports between rooms point one way, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "schemas": set[str](),
    "annotators": {"schemas"},
    "bases": {"schemas", "annotators"},
    "evaluation": {"schemas", "annotators", "bases"},
    "pipelines": {"schemas", "annotators", "bases", "evaluation"},
    "training": {"schemas", "annotators", "bases", "evaluation"},
}


def module_name(path: Path) -> str:
    """``schemas/files/storage.py`` → ``schemas.files.storage``; a package has its folder's name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))}


def imported_by(module: str) -> set[str]:
    """Modules of the rooms that a module imports anywhere: at its top, in a function, or for its types."""
    path = FILES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        name = ".".join([*base, *([node.module] if node.module else [])]).removeprefix("controlmill.")
        found |= {f"{name}.{alias.name}" if f"{name}.{alias.name}" in FILES else name for alias in node.names}
    return {name for name in found if name in FILES}


def test_rooms_import_only_the_rooms_below_them() -> None:
    upward = [
        f"{module} imports {name}"
        for module in FILES
        for name in imported_by(module)
        if (room := name.split(".")[0]) != module.split(".")[0] and room not in ALLOWED[module.split(".")[0]]
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: imported_by(module) - {module} for module in FILES}).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise AssertionError(circle) from None
