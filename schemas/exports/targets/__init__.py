"""The layouts: a module each, and their names here. Another trainer is one more module and one more row."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .target import Target

TARGETS = {  # name → module and class: what --help lists is not loaded for it
    "diffusers": "diffusers:Diffusers",
    "imagefolder": "imagefolder:ImageFolder",
    "webdataset": "webdataset:WebDataset",
    "kohya": "kohya:Kohya",
    "simpletuner": "simpletuner:SimpleTuner",
    "ai-toolkit": "ai_toolkit:AiToolkit",
    "musubi-tuner": "musubi_tuner:MusubiTuner",
    "diffsynth": "diffsynth:DiffSynth",
    "videox-fun": "videox_fun:VideoXFun",
    "original": "original:Original",
}


def target_named(name: str) -> Target:
    """A layout of :data:`TARGETS`."""
    module, kind = TARGETS[name].split(":")
    found: Target = getattr(import_module(f".{module}", __name__), kind)()
    return found
