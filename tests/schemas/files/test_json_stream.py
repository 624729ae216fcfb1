"""Large JSON, an element at a time, whatever is in it."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest

from controlmill.schemas.files.json_stream import CHUNK, MAX_ELEMENT, elements

WHOLE = {
    "info": {"a": [1, {"b": None}]},
    "images": [{"id": 1, "name": "ü" * 10}, {"id": 2.5e3}, [], "text", -7],
    "skipped": [[1], [2]],
    "empty": [],
    "annotations": [12345678901234567890, True],
}


@pytest.mark.parametrize("indent", [None, 2])
def test_elements_are_those_of_json(indent: int | None) -> None:
    data = json.dumps(WHOLE, indent=indent).encode()
    found = list(elements(io.BytesIO(data), ("images", "annotations", "empty")))
    assert found == [(name, item) for name in ("images", "annotations") for item in WHOLE[name]]


def test_elements_go_over_the_ends_of_what_is_read_at_once() -> None:
    numbers = [12345678] * 40_000 + ["x" * (CHUNK - 40_000 * 10 - 30)] + list(range(40))
    data = json.dumps({"a": numbers, "b": ["é" * CHUNK]}, ensure_ascii=False).encode()
    for shift in range(0, 60, 7):
        found = [item for _, item in elements(io.BytesIO(b" " * shift + data), ("a", "b"))]
        assert found == [*numbers, "é" * CHUNK]


def test_memory_is_that_of_an_element() -> None:
    class Long(io.RawIOBase):
        """An array of 64 MB."""

        left = 64

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b'{"a": [1' if self.left == 63 else b',"%s"' % (b"x" * 100_000) * 10 if self.left > 0 else b""

    tracemalloc.start()
    with pytest.raises(ValueError, match="it ends"):
        for _ in elements(Long(), ()):  # type: ignore[arg-type]
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * CHUNK


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it ends"),
        (b"[1]", "'\\['"),
        (b'{"a": [1, 2}', "'}'"),
        (b'{"a": [1 2]}', "'2'"),
        (b'{"a": [NaN]}', "NaN is no number"),
        (b'{"a": ["\xff"]}', "utf-8|UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep"),
        (b'{"a": ["' + b"x" * (MAX_ELEMENT + 2 * CHUNK), "more than"),
        (b'{"a": [' + b"9" * 5000 + b"]}", "digits"),
        (b"{1: 2}", "no text|property name|not JSON"),
    ],
)
def test_what_is_no_json_is_an_error(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(elements(io.BytesIO(data), ("a",)))
