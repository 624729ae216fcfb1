"""A range says what it holds, and holds it."""

from __future__ import annotations

import math

import pytest

from controlmill.schemas.terminal.ranges import Range


@pytest.mark.parametrize(
    ("bounds", "text", "inside", "outside"),
    [
        (Range(), "0 or more", [0, 1e300], [-1]),
        (Range(open_low=True), "above 0", [1e-9], [0]),
        (Range(0, 1), "from 0 to 1", [0, 1], [1.1]),
        (Range(0, 1, open_high=True), "from 0 to below 1", [0, 0.99], [1]),
        (Range(1, 10**8, open_high=True), "from 1 to below 10**8", [1], [10**8]),
        (Range(0, 2**63, open_high=True), "from 0 to below 2**63", [2**63 - 1], [2**63]),
        (Range(64, 128, multiple_of=8), "from 64 to 128, in multiples of 8", [72], [65, 60, 136]),
    ],
)
def test_a_range_says_what_it_holds(bounds: Range, text: str, inside: list[float], outside: list[float]) -> None:
    assert str(bounds) == text
    assert all(value in bounds for value in inside)
    assert not any(value in bounds for value in [*outside, math.nan])
