"""Options about networks that several rooms' commands have: device, dtype, weights and licences; those of weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from controlmill.schemas.terminal.options import option

AutoDtype = Literal["auto", "fp32", "bf16", "fp16"]
DEVICE = r"auto|cpu|mps|cuda(:[0-9]+)?"
DEVICES = "auto, cpu, cuda, cuda:N or mps"


def device_option(**metadata: Any) -> Any:
    """The field ``device`` of an options dataclass."""
    text = f"{DEVICES}. auto: the first GPU, else the CPU."
    return option("auto", text, pattern=DEVICE, possible=DEVICES, **metadata)


def weights_option(default: Any = None, **metadata: Any) -> Any:
    """The field ``weights`` of an options dataclass."""
    return option(default, "Folder with annotators' weight files, named as on the hub.", **metadata)


def license_option() -> Any:
    """The field ``accept_license`` of an options dataclass."""
    return option(
        (), "Accept the licence of some weights, e.g. openpose (`controlmill doctor` lists them). Repeatable."
    )


def conditions_option() -> Any:
    """The field ``conditions`` of an options dataclass about weights."""
    return option("all", "Conditions, as for annotate. all: the default variant of each.")


@dataclass(frozen=True)
class ListOptions:
    """Which weight files are listed."""

    conditions: str = conditions_option()
    weights: Path | None = weights_option()


@dataclass(frozen=True)
class FetchOptions:
    """Which weight files are downloaded, and to where."""

    conditions: str = conditions_option()
    accept_license: tuple[str, ...] = license_option()
    to: Path | None = option(None, "Copy the files into this folder, for --weights on other machines.")
