"""Results of two methods for the rows of one dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.results import write_results

MARKUP = "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>&amp;"


def good(row: int, kind: str) -> float | None:
    """Falls with the row."""
    return 0.9 - row / 20


def bad(row: int, kind: str) -> float | None:
    """Worst, against the other, at row 5; row 2 has none."""
    return None if row == 2 else 0.9 - row / 20 - (0.35 if row == 5 else row / 100)


@pytest.fixture(scope="session")
def compared(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the results; not to be changed."""
    folder = tmp_path_factory.mktemp("results")

    def prompts(row: int) -> str:
        return f"scene {row} {MARKUP}"

    return (
        write_results(folder / "good", dataset, good, prompts),
        write_results(folder / "poor", dataset, bad, prompts),
    )
