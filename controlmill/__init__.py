"""ControlMill: from a heap of images to a trained ControlNet.

    import controlmill

    dataset = controlmill.open_dataset("dataset")
    for row in dataset.rows("images", "canny"):
        row.key, row["images"], row["canny"]

docs/datasets.md tells more. Nothing is loaded before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controlmill.schemas.errors import MillError
    from controlmill.schemas.views.rows import OpenDataset, Row, open_dataset

__version__ = "0.1.0"
__all__ = ["MillError", "OpenDataset", "Row", "__version__", "open_dataset"]
_HOMES = {"MillError": "errors", "OpenDataset": "views.rows", "Row": "views.rows", "open_dataset": "views.rows"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".schemas.{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
