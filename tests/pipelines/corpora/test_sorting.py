"""Sorting on disk is sorting."""

from __future__ import annotations

import tempfile
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.pipelines.corpora import sorting
from controlmill.pipelines.corpora.sorting import sort_on_disk

NAMES = st.text(st.characters(), max_size=4) | st.sampled_from(["\udce9.png", "a\nb", '"'])


def test_few_files_are_open_however_many_items_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "MOST_PARTS", 3)
    opened: list[IO[str]] = []
    new = tempfile.TemporaryFile

    def counted(*words: Any, **options: Any) -> IO[str]:
        opened.append(new(*words, **options))
        assert sum(not file.closed for file in opened) <= 4
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", counted)
    items = [(str(number * 7 % 50),) for number in range(50)]
    assert list(sort_on_disk(items, 2)) == sorted(items)
    assert len(opened) > 25


@settings(max_examples=50)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["picture", "folder"]))), st.integers(1, 5))
def test_the_order_is_that_of_sorting_in_memory(items: list[tuple[str, str]], in_memory: int) -> None:
    assert list(sort_on_disk(iter(items), in_memory)) == sorted(items)
