"""Kinds of prompts that pictures are sampled with (paper, section 3.5)."""

from __future__ import annotations

PROMPT_KINDS = ("none", "default", "auto", "user")
PROMPTS = (  # help of an option
    f"Kinds of prompt: some of {', '.join(PROMPT_KINDS)}, with commas. auto: BLIP's words for the picture of the "
    "default prompt."
)
DEFAULT_PROMPT = "a professional, detailed, high-quality image"
