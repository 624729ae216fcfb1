"""The list of reasons is that of the code, and docs/datasets.md has all of it, and all columns of all tables."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from controlmill.pipelines.corpora import http_faults, img2dataset
from controlmill.schemas.reasons import REASONS
from controlmill.schemas.tables import TABLES

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "annotators", "bases", "evaluation", "pipelines", "training")
PAGE = (ROOT / "docs" / "datasets.md").read_text("utf-8")


def named(tree: ast.AST) -> Iterator[str]:
    """The reasons that a module gives: to what is refused, and by the name of ``reason``."""
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Refused", "Failure"):
            given = node.args[:1]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refused":
            given = [value for value in node.args[1:2] if not isinstance(value, ast.Starred)]
        elif isinstance(node, ast.keyword) and node.arg == "reason":
            given = [node.value]
        for value in given:
            constants = (inner.value for inner in ast.walk(value) if isinstance(inner, ast.Constant))
            yield from (text for text in constants if isinstance(text, str))


def test_every_reason_that_the_code_gives_has_a_meaning_and_no_other_does() -> None:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    given = {reason for path in paths for reason in named(ast.parse(path.read_text("utf-8")))}
    given |= {reason for _, reason in img2dataset.REASONS} | {reason for _, reason, _ in http_faults.LASTING}
    assert given == set(REASONS)


def test_the_page_has_every_reason_with_its_meaning() -> None:
    lines = [f"| `{reason}` | {meaning} |" for reason, meaning in REASONS.items()]
    assert [line for line in lines if line not in PAGE] == []


@pytest.mark.parametrize("table", [table for table in TABLES.values() if table.role != "condition"])
def test_the_page_has_every_column(table: pa.Table) -> None:
    section = PAGE.split(f"\n**`{table.name}`**", 1)[1].split("\n\n", 1)[0]
    assert [name for name in table.schema.names if f"`{name}`" not in section] == []
