"""The four settings of prompts in section 4.2 of the paper, for a drawn scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from recipes.tiny_base.scenes import SHAPES, USUAL_COLOURS, Scene, caption_of


def conflicting(scene: Scene) -> str:
    """Names other shapes than there are, in the colours that are usual for those."""
    kinds = [SHAPES[(SHAPES.index(shape.kind) + 1) % len(SHAPES)] for shape in scene.shapes]
    others = [
        replace(shape, kind=kind, colour=USUAL_COLOURS[kind]) for shape, kind in zip(scene.shapes, kinds, strict=True)
    ]
    return caption_of(others, scene.ground)


PROMPTS: Mapping[str, Callable[[Scene], str]] = {
    "none": lambda scene: "",
    "insufficient": lambda scene: "a ground",  # names neither a shape nor a colour
    "conflicting": conflicting,
    "full": lambda scene: scene.caption,
}
