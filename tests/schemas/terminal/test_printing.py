"""What comes from files cannot steer a terminal, nor pass for a line of ours."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from controlmill.schemas.terminal.printing import CONTROLS, counted, printable, printable_lines


@given(st.text(st.characters()))
def test_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert CONTROLS.isdisjoint(map(unicodedata.category, shown))
    shown.encode()  # what is not UTF-8 is spelt too
    assert printable(shown) == shown


def test_controls_are_spelt_and_letters_of_every_script_stay() -> None:
    assert printable("\x1b[31mred\x9b1m\x07\x7f") == r"\x1b[31mred\x9b1m\x07\x7f"
    assert printable("a\nb\u2028c\u202ed\u2066e\u200f\ufeff\ud800") == r"a\nb\u2028c\u202ed\u2066e\u200f\ufeff\ud800"
    for text in ("Größe 日本語\u3000写真.jpg", "עברית", "🦊", r"C:\x1b", "a\u00a0b"):
        assert printable(text) == text


def test_one_is_no_plural() -> None:
    assert [counted(number, "shard") for number in (0, 1, 1024)] == ["0 shards", "1 shard", "1,024 shards"]


def test_a_later_line_of_an_error_is_indented() -> None:
    assert printable_lines("bad name\ncontrolmill: done\r\n    more") == "bad name\n  controlmill: done\\r\n    more"
