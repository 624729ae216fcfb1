"""Evaluations of a small run, for tests of the command."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers import Ended

PROTOCOL = """
title = "short"
source = "none"
measures = ["maps"]
prompts = ["none", "user"]
pictures_per_row = 2
[sampling]
steps = 1
guidance_scale = 2.0
[self_test]
controlnet = "CONTROLNET"
base = "BASE"
measure = "f1"
method = "somebody"
[published]
f1 = [{ method = "somebody", value = 0.5 }]
"""
ROWS = 8
Evaluate = Callable[..., Ended]
