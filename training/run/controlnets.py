"""What an address of a ControlNet means: a run, whose record says how it was trained, or one from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from controlmill.bases.configuration import is_single_file, is_written_as_path
from controlmill.evaluation.sampling.used import UsedControlNet
from controlmill.schemas.errors import MillError

from .record import RunRecord, as_recorded, read_run
from .saved import controlnet_folder, steps_saved


def find_controlnet(address: str, strength: float = 1.0) -> tuple[UsedControlNet, RunRecord | None]:
    """The ControlNet of a run, a folder, a ``.safetensors`` file or a name on the hub; and the run's record.

    Raises:
        MillError: there is none, or a file of the run is damaged.
    """
    run = Path(address).expanduser()
    record, folder, name = read_run(run), controlnet_folder(address), published_name(address)
    if record is None:
        return UsedControlNet(folder, name, strength=strength), None
    saved, at = steps_saved(run), Path(folder)
    unet = ""
    if record.config.unlock != "none":
        unet = str((at if at == run else at.parent) / "unet")
    step = f" at step {saved[-1]}" if saved else ""
    return UsedControlNet(folder, f"{name}{step}", record.config.connection, unet, strength), record


def check_here(address: str, lacking: Sequence[str]) -> None:
    """Raise MillError where ``address`` is nothing on this machine, and is not said to be on the Hub.

    ``lacking`` are the options that one on the Hub needs, and that were not given.
    """
    if not lacking or Path(address).expanduser().exists():
        return
    nowhere = f"{address}: no such folder or file here"
    if is_written_as_path(address) or is_single_file(address):
        raise MillError(nowhere)
    raise MillError(f"{nowhere}. If it is a ControlNet on the Hub, also give {' and '.join(lacking)}")


def published_name(address: str) -> str:
    """What a ControlNet is called where it may be published: a folder's last name, or its name on the hub."""
    path = Path(address).expanduser()
    return path.resolve().name if path.exists() else address


def base_of(
    asked: str, address: str, controlnets: Sequence[UsedControlNet], records: Sequence[RunRecord | None]
) -> str:
    """The name of the base that ControlNets are used with.

    Args:
        asked: by ``--base``; empty: that of the first run.
        address: of the first ControlNet.
        controlnets: the first one, and those that are added to it.
        records: each one's; None where it is no run.

    Raises:
        MillError: it is not known; another one is asked for than a ControlNet was trained together with.
    """
    recorded = next((record.config.base for record in records if record), "")
    base = as_recorded(asked, recorded) if asked else recorded
    if not base:
        raise MillError(f"--base: say which base model {address} was trained for")
    for i, (one, record) in enumerate(zip(controlnets, records, strict=True)):
        if one.unet and record and (i or base != record.config.base):
            raise MillError(
                f"{one.name} was trained together with its base (--unlock {record.config.unlock}): it cannot be added "
                "to another, nor moved to another --base"
            )
    return base
