"""JSON that a dataset's files hold, and the shape that readers count on: files come from elsewhere too.

Whoever reads JSON of a dataset reads it here, so that a malformed value is one message with the file's name, however
deep or large it is, and nothing behind this file needs to look twice. What no shape names is taken as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Damaged
from ..terminal.printing import printable

MAX_BYTES = 256 * 1024 * 1024  # of JSON: the index of a table of 400 million pictures
MAX_DEPTH = 32
MAX_SHARD_ROWS = 100_000
SHOWN = 60  # characters of a value in a message
TYPES = {str: "text", list: "a list", dict: "an object", bool: "true or false", float: "a number"}


@dataclass(frozen=True)
class Count:
    """A whole number within bounds."""

    least: int = 0
    most: int = 2**53


@dataclass(frozen=True)
class Maybe:
    """A value of this shape, or null."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """An object of any names, each with a value of this shape."""

    shape: Any


SHA256 = re.compile(r"[0-9a-f]{64}")
WORD = re.compile(r"[\w.:=-]{1,64}", re.ASCII)  # what cards quote
REASONS = Each(Count())
PLACEMENT = {"device": str, "dtype": re.compile("fp32|bf16|fp16"), "batch_size": Count(0, 65536)}
WEIGHTS = {"name": str, "origin": str, "sha256": SHA256}
LIMITS = {"max_pixels": Count(1), "max_bytes": Count(1), "min_side": Count()}
INGEST = {
    "resolution": Count(1),
    "fit": re.compile("crop|bucket|none"),
    "limits": LIMITS,
    "white": Maybe(Count(1, 65535)),
}
COLOUR = re.compile(r"[0-9a-f]{6}")
LABEL_SET = {
    "name": str,
    "classes": [str],
    "ids": [[Count(0, 65535)]],
    "void": [Count(0, 65535)],
    "others_void": bool,
    "colours": [COLOUR],
    "void_colours": [COLOUR],
    "encoding": re.compile("id|ade20k"),
}
READING = {  # of a user's maps
    "invert?": bool,
    "depth?": {"meaning": re.compile("metric|inverse"), "scale": float, "invalid": [float]},
    "label_set?": LABEL_SET,
}
ANNOTATOR = {
    "condition": WORD,
    "variant": WORD,
    "params?": dict,
    "reading?": READING,
    "network?": {"name": str, "weights": [WEIGHTS]},
    "placement?": PLACEMENT,
}
ENCODER = {"sha256": SHA256, "stored": re.compile("fp32|fp16"), "placement": PLACEMENT}
PROVENANCE = {
    "table": str,
    "kind": re.compile("sources|images|rejected|latents|embeddings|binary|gray8|gray16|rgb|labels|text"),
    "images_sha256?": SHA256,
    "ingest?": INGEST,
    "annotator?": ANNOTATOR,
    "encoder?": ENCODER,
}
REJECT = {"source": str, "reason": str, "error": str}
CAPTIONS = {"given": Count(), "unread": Count()}
SUMMARY = {"reasons?": REASONS, "empty?": Count(), "rejects?": [REJECT], "captions?": CAPTIONS, "several?": Count()}
COUNTED = {"files": Count(), "most": Each(Count())}
PASSED_OVER = {
    **{f"{name}?": Count() for name in ("texts", "metadata", "named", "absent", "maps", "again", "faults")},
    **{f"{name}?": COUNTED for name in ("other", "skipped")},
    **{f"{name}?": [str] for name in ("left_out", "notes")},
}
SEGMENT = {
    **{"first_shard": Count(), "shards": Count(), "rows": Count()},
    "passed_over?": PASSED_OVER,
}
CONFIG = {
    "version": Count(),
    "ingest": INGEST,
    "shard_size": Count(0, MAX_SHARD_ROWS),  # 0: decided when the corpus is listed
    "segments": [SEGMENT],
}
LOCAL = {"corpora": [str]}
AIM = {"aim": SHA256, "state": re.compile("making|switching|done")}
ENTRY = {
    "rows": Count(0, MAX_SHARD_ROWS),
    "row_groups": Count(0, MAX_SHARD_ROWS),
    "bytes": Count(),
    "sha256": SHA256,
    "images_sha256?": SHA256,
    "reasons?": REASONS,
    "captions?": CAPTIONS,
    "several?": Count(),
    "empty?": Count(),
}
INDEX = {"table": str, "provenance": PROVENANCE, "shards": [ENTRY]}
ALIGNED = [{**ENTRY, "images_sha256": SHA256}]
MAP_OR_TEXT = re.compile("binary|gray8|gray16|rgb|labels|text")
CONDITION_PROVENANCE = {**PROVENANCE, "kind": MAP_OR_TEXT, "annotator": ANNOTATOR}
CONDITION_INDEX = {"table": str, "provenance": CONDITION_PROVENANCE, "shards": ALIGNED}
CACHE_INDEX = {"table": str, "provenance": {**PROVENANCE, "encoder": ENCODER}, "shards": ALIGNED}


def parse(data: bytes | str, shape: Any = object) -> Any:
    """The value of JSON text, which must be of this shape.

    Args:
        data: UTF-8.
        shape: ``str``, ``dict``, ``bool``, ``float`` or ``object`` (anything); a pattern that a text matches in full;
            a :class:`Count`; ``[shape]``, a list of such values; an object by the names that are needed (``name?`` may
            be absent); an :class:`Each` or a :class:`Maybe`.

    Raises:
        ValueError: not JSON, nested too deep, too large, or of another shape.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        value = json.loads(data if isinstance(data, str) else data.decode(), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check_depth(value)
    check(value, shape)
    return value


def check(value: Any, shape: Any, at: str = "") -> None:
    """Raise ValueError where a value is not of a shape (see :func:`parse`); ``at`` is where in a file it stands."""
    if isinstance(shape, Maybe):
        if value is not None:
            check(value, shape.shape, at)
    elif isinstance(shape, Each):
        _check_type(value, dict, at)
        for name, item in value.items():
            check(item, shape.shape, _inside(at, name))
    elif isinstance(shape, dict):
        _check_type(value, dict, at)
        for name, part in shape.items():
            key = name.removesuffix("?")
            if key in value:
                check(value[key], part, _inside(at, key))
            elif key == name:
                raise ValueError(f"no {key}{f' in {at}' if at else ''}")
    elif isinstance(shape, list):
        _check_type(value, list, at)
        for number, item in enumerate(value):
            check(item, shape[0], _inside(at, number))
    else:
        _check_leaf(value, shape, at)


def _check_leaf(value: Any, shape: Any, at: str) -> None:
    if isinstance(shape, Count):
        if type(value) is not int or not shape.least <= value <= shape.most:
            raise _fault(value, f"a whole number from {shape.least} to {shape.most}", at)
    elif isinstance(shape, re.Pattern):
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise _fault(value, shape.pattern, at)
    else:
        _check_type(value, shape, at)


def _check_type(value: Any, kind: type, at: str) -> None:
    if not isinstance(value, kind):
        raise _fault(value, TYPES[kind], at)


def _inside(at: str, name: str | int) -> str:
    return f"{at}.{name}" if at else str(name)


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ValueError where ``dataset.json`` contradicts itself; its shape is :data:`CONFIG`."""
    shards = 0
    if config["segments"] and not config["shard_size"]:
        raise ValueError("shard_size is 0, not a whole number from 1")
    for number, segment in enumerate(config["segments"]):
        wanted = -(-segment["rows"] // config["shard_size"])
        if segment["first_shard"] != shards or segment["shards"] != wanted:
            raise ValueError(
                f"segments.{number} has {segment['shards']} shards from {segment['first_shard']} on; "
                f"its {segment['rows']} rows make {wanted} from {shards} on"
            )
        shards += wanted


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for parent in level
            if isinstance(parent, dict | list)
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise ValueError("nested too deep")


def _fault(value: Any, wanted: str, at: str) -> ValueError:
    named = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else ""
    shown = named or json.dumps(value)
    return ValueError(f"{at or 'the whole'} is {printable(shown)[:SHOWN]}, not {wanted}")


def damaged(where: str, error: BaseException, advice: str = "") -> Damaged:
    """What a file that cannot be read rightly is for a user."""
    return Damaged(f"{where} is damaged ({error}){f': {advice}' if advice else ''}")
