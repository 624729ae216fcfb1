"""What headers of an answer say."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from controlmill.pipelines.corpora.http_headers import opt_out, retry_after


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["noai"], "noai"),
        (["index, NoImageAI"], "noimageai"),
        (["noindex"], None),
        (["googlebot: noai"], None),
        (["googlebot: noindex, noai"], None),
        (["ControlMill: noai"], "noai"),
        (["*: noai"], "noai"),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], "noai"),
        (["nofollow", "noimageai"], "noimageai"),
        ([], None),
    ],
)
def test_opting_out(values: list[str], found: str | None) -> None:
    assert opt_out(values) == found


def test_when_to_come_again() -> None:
    assert retry_after("7") == 7
    assert 50 < (retry_after(formatdate(time.time() + 60, usegmt=True)) or 0) <= 60
    assert retry_after(formatdate(0, usegmt=True)) == 0
    assert [retry_after(value) for value in (None, "soon", "-1", "²")] == [None] * 4
