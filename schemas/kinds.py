"""The kinds of map: what decides a map's codec, its array and how it may be resized."""

from __future__ import annotations

from typing import Literal

Kind = Literal["binary", "gray8", "gray16", "rgb", "labels", "text"]

KINDS: tuple[Kind, ...] = ("binary", "gray8", "gray16", "rgb", "labels")  # of maps; captions are text
