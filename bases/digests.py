"""What identifies a base's weights: a digest of each part, the same for a folder, a name on the hub and a single file.

A part's files are read in threads, so that this costs no time beside imports and the making of networks. A digest is of
every weight's name, shape and value as float32: it does not depend on the precision of a run, on the layout of a file,
or on names that diffusers and transformers have changed since the file was written.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from controlmill.schemas.errors import MillError, error_text

from .configuration import configured_by, is_single_file, location
from .loading import weights_files

NEW_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}  # of VAEs
IGNORED = "position_ids"  # in files, but not used
UNUSED = {"text_encoder": ("text_projection.weight",)}  # of a part; text_encoder_2 uses its projection
VAE_ENCODER = ("encoder.", "quant_conv.")  # the decoder does not influence latents
VAE_SETTINGS = {
    "down_block_types": None,
    "block_out_channels": None,
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "use_quant_conv": True,
    "mid_block_add_attention": True,
}
TEXT_SETTINGS = {
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
READ = 16 * 1024 * 1024  # bytes at a time, a multiple of every width

Weights = dict[str, str]  # name of a weight → digest of its shape and values


def vae_digest(base: str, config: Mapping[str, Any]) -> str:
    """Digest of what decides latents: the weights of the VAE's encoder and its architecture."""
    weights = {name: digest for name, digest in weights_of(base, "vae").items() if name.startswith(VAE_ENCODER)}
    return together(_settings(config, VAE_SETTINGS), weights)


def text_digest(base: str, configs: Mapping[str, Mapping[str, Any]], tokenizers: Mapping[str, Any]) -> str:
    """Digest of what decides a prompt's encoding: the text encoders' weights and architecture, and the tokens.

    Args:
        base: its name.
        configs: configuration of each text encoder, by part.
        tokenizers: of each, in the same order.
    """
    texts = [
        together(
            _settings(config, TEXT_SETTINGS)
            | {"vocabulary": tokenizer.get_vocab(), "length": tokenizer.model_max_length},
            weights_of(base, part),
        )
        for (part, config), tokenizer in zip(configs.items(), tokenizers.values(), strict=True)
    ]
    return texts[0] if len(texts) == 1 else together({}, dict(zip(configs, texts, strict=True)))


def base_digest(base: str, parts: Sequence[str], configs: Mapping[str, Any], tokenizers: Mapping[str, Any]) -> str:
    """Digest of all weights, configurations and tokens: a base that differs in anything has another."""
    start(base, parts)
    tokens = {part.replace("tokenizer", "tokens"): tokenizer.get_vocab() for part, tokenizer in tokenizers.items()}
    settings = {**configs, **tokens}
    return together(settings, {part: together({}, weights_of(base, part)) for part in parts})


def start(base: str, parts: Sequence[str]) -> None:
    """Begin to read the files of weights in threads, where they are in a folder."""
    if Path(location(base)).is_dir():
        for part in parts:
            with contextlib.suppress(OSError, ValueError):  # said where they are needed
                for path in weights_files(base, part):
                    _digests_of(path)


def weights_of(base: str, part: str) -> Weights:
    """Digests of the weights of a part, such as ``unet``.

    Raises:
        MillError: they cannot be read.
    """
    unused = UNUSED.get(part, ())
    return {name: digest for name, digest in _weights_of(base, part).items() if name not in unused}


def _weights_of(base: str, part: str) -> Weights:
    if is_single_file(base):
        path = Path(location(base))
        return of_single_file(path, configured_by(base), part, path.stat().st_mtime_ns)
    try:
        reading = [_digests_of(path) for path in weights_files(base, part)]
    except (OSError, ValueError) as error:
        raise MillError(
            f"--base {base}: the weights of its {part} cannot be read ({error_text(error)}); they are read from "
            ".safetensors files"
        ) from error
    return {name: digest for future in reading for name, digest in future.result().items()}


def _digests_of(path: Path) -> Future[Weights]:
    stat = path.stat()
    return _reading(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _reading(path: Path, size: int, changed: int) -> Future[Weights]:
    """The digests of a file as it is now, being made in a thread that does not outlive the process."""
    future: Future[Weights] = Future()

    def read() -> None:
        try:
            future.set_result(of_file(path))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=read, daemon=True).start()
    return future


def of_file(path: Path) -> Weights:
    """Digests of the weights in a ``.safetensors`` file, read in bounded memory.

    Raises:
        MillError: it is no such file, or holds weights that are not floats.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
            found = {}
            for name, entry in header.items():
                if name != "__metadata__" and not name.endswith(IGNORED):
                    begin, end = entry["data_offsets"]
                    file.seek(8 + length + begin)
                    parts = _values(file, end - begin, entry["dtype"])
                    found[_name(name)] = _digest(entry["shape"], parts)
            return found
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise MillError(f"{path}: not a whole .safetensors file ({error})") from error


def _values(file: BinaryIO, left: int, dtype: str) -> Iterator[Any]:
    if dtype not in WIDTHS:
        raise ValueError(f"it holds {dtype}")
    while left:
        data = file.read(min(READ, left))
        if not data:
            raise ValueError("it is cut off")
        left -= len(data)
        if dtype == "BF16":
            yield (np.frombuffer(data, "<u2").astype("<u4") << np.uint32(16)).data
        elif dtype == "F32":
            yield data
        else:
            yield np.frombuffer(data, {"F64": "<f8", "F16": "<f2"}[dtype]).astype("<f4").data


@functools.lru_cache(maxsize=8)
def of_single_file(path: Path, folder: str, part: str, changed: int) -> Weights:
    """Digests of a part's weights, for a base in one file. What is loaded for that is kept for who loads it next."""
    from . import single_file

    network = single_file.load_network(path, folder, part)
    single_file.keep(path, part, network)
    return of_tensors(network.state_dict().items())


def of_tensors(tensors: Iterable[tuple[str, Any]]) -> Weights:
    """Digests of tensors."""
    return {
        _name(name): _digest(list(tensor.shape), [tensor.detach().float().cpu().contiguous().numpy().data])
        for name, tensor in tensors
        if not name.endswith(IGNORED)
    }


def _name(name: str) -> str:
    for old, new in NEW_NAMES.items():
        name = name.replace(old, new)
    return name.removeprefix("text_model.")


def _digest(shape: list[int], parts: Iterable[Any]) -> str:
    digest = hashlib.sha256(json.dumps(shape).encode())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _settings(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config.get(name, default) for name, default in defaults.items()}


def together(settings: Mapping[str, Any], weights: Weights) -> str:
    """One digest of settings, as JSON, and weights."""
    return hashlib.sha256(json.dumps([settings, weights], sort_keys=True, default=str).encode()).hexdigest()
