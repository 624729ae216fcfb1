"""Where a base is, and its configuration files, read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.fingerprint import sha256_file

from .files import PATHS, pinned, read_config, weights_of_network

TINY = Path(__file__).parent / "tiny"

Connection = Literal["zero", "gaussian", "lite", "random", "input"]
OWN_CLASSES: dict[Connection, str] = {"lite": "LiteControlNet", "input": "InputControlNet"}  # in ablations.py
Unlock = Literal["none", "decoder", "base"]


def location(name: str) -> str:
    """A base's folder, file or hub name; ``tiny`` is the one that comes with ControlMill.

    Raises:
        MillError: there is no such folder or file.
    """
    if name == "tiny":
        if not (TINY / "model_index.json").is_file():
            raise MillError(
                f"the tiny base is missing from this installation ({TINY}): install controlmill again, "
                "or make one with python -m recipes.tiny_base FOLDER (hours on a CPU), then --base FOLDER"
            )
        return str(TINY)
    if is_written_as_path(name) or name.endswith((".safetensors", ".ckpt")):
        path = Path(name).expanduser()
        if path.suffix == ".ckpt":
            raise MillError(f"--base {name}: a .ckpt file can run code when it is loaded; convert it to .safetensors")
        if not path.exists():
            raise MillError(f"--base {name}: no such file or folder")
        return str(path)
    return name


def is_written_as_path(name: str) -> bool:
    """Whether a name of a base, or of a ControlNet, is written as a path, which none on the hub is."""
    return name.startswith(PATHS)


def is_single_file(name: str) -> bool:
    """Whether a base, or a ControlNet, is one ``.safetensors`` file."""
    return name.endswith(".safetensors")


def configured_by(name: str) -> str:
    """The folder, or name on the hub, that has the configuration files and the tokenizer of a base.

    Raises:
        MillError: there is no such base, or a single file's configuration cannot be had.
    """
    where = location(name)
    if not is_single_file(name):
        return where
    from . import single_file

    return single_file.configuration(Path(where))


def pinned_base(name: str) -> str:
    """The name of a base; of one on the hub with the commit that this process reads, ``owner/name@commit``.

    Raises:
        MillError: there is no such base.
    """
    try:
        return name if Path(location(name)).exists() else pinned(name, "model_index.json")
    except OSError as error:
        raise MillError(f"--base {name}: it cannot be had ({error_text(error)})") from error


def pinned_controlnet(address: str) -> str:
    """A ControlNet's address; of one on the hub with the commit that this process reads, ``owner/name@commit``.

    Raises:
        MillError: it cannot be had.
    """
    try:
        return pinned(address, "config.json")
    except OSError as error:
        raise MillError(f"{address}: no ControlNet that can be had ({error_text(error)})") from error


def read_controlnet_config(folder: str, connection: Connection = "zero") -> dict[str, Any]:
    """The configuration of a ControlNet.

    Raises:
        MillError: there is none, or it is of another class than those of ``connection``; those of ``OWN_CLASSES``
            cannot be started from.
    """
    try:
        config = read_config(folder, "config.json")
    except (OSError, ValueError) as error:
        here = Path(folder).exists() or is_written_as_path(folder)
        where = "no ControlNet there" if here else "not found here, and the Hub could not give it"
        raise MillError(f"{folder}: {where} ({str(error).splitlines()[0]})") from error
    wanted = OWN_CLASSES.get(connection, "ControlNetModel")
    if config.get("_class_name") != wanted:
        raise MillError(f"{folder} holds a {config.get('_class_name')}, not a {wanted}")
    return config


def weights_digests(folder: str) -> list[str]:
    """sha256 of each file of weights of a ControlNet, or of a denoiser: a file, a folder, or a repository on the hub.

    Raises:
        MillError: they cannot be had.
    """
    try:
        if is_single_file(folder):
            return [sha256_file(Path(folder))]
        return [sha256_file(path) for path in weights_of_network(folder, "diffusion_pytorch_model.safetensors")]
    except (OSError, ValueError) as error:
        raise MillError(f"{folder}: its weights cannot be had ({error_text(error)})") from error
