"""Comparisons with references, again on the code paths of other processors: their last bits differ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOLDEN = "reference or stock or equal or near or singles or argmax or models"


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "settings",
    [{"ATEN_CPU_CAPABILITY": "default"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}],
    ids=lambda settings: "=".join(*settings.items()),
)
def test_golden_comparisons_hold_on_other_processors(settings: dict[str, Any]) -> None:
    rooms = ("annotators", "bases", "evaluation", "training")
    # 16-bit floats take minutes where a processor has none
    tests = [sys.executable, "-m", "pytest", *(f"tests/{room}" for room in rooms), "-k", GOLDEN, "--timeout", "0"]
    root = Path(__file__).parents[1]
    done = subprocess.run(tests, check=False, cwd=root, env={**os.environ, **settings}, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0
