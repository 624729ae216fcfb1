"""Sorting on disk is sorting."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.pipelines.corpora.sorting import sort_on_disk

NAMES = st.text(st.characters(), max_size=4) | st.sampled_from(["\udce9.png", "a\nb", '"'])


@settings(max_examples=50)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["picture", "folder"]))), st.integers(1, 5))
def test_the_order_is_that_of_sorting_in_memory(items: list[tuple[str, str]], in_memory: int) -> None:
    assert list(sort_on_disk(iter(items), in_memory)) == sorted(items)
