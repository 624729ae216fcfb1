"""The parts' results as one JSON file and one page: a table a part, and what did not run and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MERGED, PAGE = "gpu.json", "gpu.md"


def merge(folder: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Part → its results; a part that has none is listed as not run."""
    merged: dict[str, Any] = {}
    for part in parts:
        file = folder / f"{part}.json"
        if file.exists():
            merged[part] = json.loads(file.read_text(encoding="utf-8"))
        else:
            merged[part] = {"rows": [], "not_run": {part: f"there is no {file.name}: make gpu PART={part}"}}
    return merged


def page(merged: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = ["# On a GPU", ""]
    for part, results in merged.items():
        machine = ", ".join(str(results[name]) for name in ("device", "torch", "python", "day") if name in results)
        lines += [f"## {part}", "", *([machine, ""] if machine else [])]
        for alike in grouped(results["rows"]):
            lines += [*table(alike), ""]
    lines += ["## Not run", ""]
    absent = [(part, *pair) for part, results in merged.items() for pair in results["not_run"].items()]
    lines += [f"* {part}, {case}: {why}" for part, case, why in absent] or ["Everything ran."]
    return "\n".join(lines) + "\n"


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows that have a value in common, beside the case and its time, are one table."""
    groups: list[list[Mapping[str, Any]]] = []
    for row in rows:
        known = next((group for group in groups if set(group[0]) & set(row) - {"case", "took_seconds"}), None)
        if known is None:
            groups.append([row])
        else:
            known.append(row)
    return groups


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as a Markdown table, with columns in the order in which they come up."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "took_seconds"))
    lines = ["| " + " | ".join(name.replace("_", " ") for name in columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_shown(row.get(name)) for name in columns) + " |" for row in rows]
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def write(folder: Path, parts: Sequence[str]) -> str:
    """Merge what is in the folder, and write both files; the page."""
    merged = merge(folder, parts)
    text = page(merged)
    (folder / MERGED).write_text(json.dumps(merged, indent=1), encoding="utf-8")
    (folder / PAGE).write_text(text, encoding="utf-8")
    return text
