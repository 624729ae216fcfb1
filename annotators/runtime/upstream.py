"""Networks of controlnet-aux, imported without its ``__init__`` (which takes 6.8 s and dies beside a new mediapipe)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import types
import warnings
from types import ModuleType

_lock = threading.Lock()


def controlnet_aux(module: str) -> ModuleType:
    """``controlnet_aux.<module>``, under a bare parent package where the whole one is not imported already."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "controlnet_aux" not in sys.modules:
            spec = importlib.util.find_spec("controlnet_aux")
            if spec is None:
                raise ModuleNotFoundError("controlnet-aux is not installed: pip install controlnet-aux")
            parent = types.ModuleType("controlnet_aux")
            parent.__path__ = list(spec.submodule_search_locations or ())
            parent.__spec__ = spec
            sys.modules["controlnet_aux"] = parent
        return importlib.import_module(f"controlnet_aux.{module}")
