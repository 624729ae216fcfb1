"""A CLIP tokenizer of our own small vocabulary: every byte, and every word of the synthetic captions as one token.

Any text can be spelt: unknown words fall apart into bytes instead of becoming ``<|endoftext|>`` in mid-prompt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes of byte-level BPE (GPT-2): bytes that print are themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*(chr(byte) for byte in printable), *(chr(256 + i) for i in range(len(others)))]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, the commonest pair first, until each word is one token (Sennrich et al. 2016)."""
    spelt = {word: (*word[:-1], word[-1] + WORD_END) for word in dict.fromkeys(words)}
    merges: list[tuple[str, str]] = []
    while any(len(parts) > 1 for parts in spelt.values()):
        pairs = Counter(pair for parts in spelt.values() for pair in pairwise(parts))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = {word: _merged(parts, best) for word, parts in spelt.items()}
    return merges


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Token → id in CLIP's order: bytes, bytes that end a word, merges, start, end."""
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *(a + b for a, b in merges), START, END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def make_tokenizer(words: Sequence[str], length: int) -> CLIPTokenizer:
    """The tokenizer; prompts are padded and cut to ``length`` tokens."""
    from transformers import CLIPTokenizer

    merges = learn_merges(words)
    return CLIPTokenizer(vocab=vocabulary(merges), merges=merges, model_max_length=length)


def write_vocabulary(words: Sequence[str], folder: Path) -> None:
    """``vocab.json`` and ``merges.txt``, which tools older than transformers 5 read."""
    merges = learn_merges(words)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
