"""The tiny base's tokenizer: every byte, and every word of the captions."""

from __future__ import annotations

from pathlib import Path

from recipes.tiny_base.scenes import caption_words
from recipes.tiny_base.tokens import byte_symbols, learn_merges, make_tokenizer


def test_the_tokenizer_knows_every_byte_and_every_word_of_the_captions(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(caption_words(), 32)
    end = tokenizer.eos_token_id
    assert all(len(tokenizer(word).input_ids) == 3 for word in caption_words())
    assert end not in tokenizer("é 5 ! 漢 zebra").input_ids[1:-1]
    assert len(byte_symbols()) == len(set(byte_symbols())) == 256
    assert len(learn_merges(["red", "green"])) < 10
    assert end != 2
