"""Kinds of prompts that pictures are sampled with (paper, section 3.5)."""

from __future__ import annotations

PROMPT_KINDS = ("none", "default", "auto", "user")
DEFAULT_PROMPT = "a professional, detailed, high-quality image"
