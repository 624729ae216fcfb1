"""Options about networks that several rooms' commands have: device, dtype, weights and licences."""

from __future__ import annotations

from typing import Any, Literal

from controlmill.schemas.terminal.options import option

AutoDtype = Literal["auto", "fp32", "bf16", "fp16"]
DEVICE = r"auto|cpu|mps|cuda(:[0-9]+)?"
DEVICES = "auto, cpu, cuda, cuda:N or mps"
WEIGHTS = "Folder with annotators' weight files, named as on the Hub."


def device_option(**metadata: Any) -> Any:
    """The field ``device`` of an options dataclass."""
    text = DEVICES.replace("auto", "auto (the first GPU, else the CPU)")
    return option("auto", f"{text}.", pattern=DEVICE, possible=DEVICES, **metadata)


def weights_option(**metadata: Any) -> Any:
    """The field ``weights`` of an options dataclass."""
    return option(None, WEIGHTS, **metadata)


def license_option() -> Any:
    """The field ``accept_license`` of an options dataclass."""
    return option(
        (), "Accept the licence of some weights, e.g. openpose (`controlmill doctor` lists them). Repeatable."
    )
