"""Digests and their differences; what decided a result: packages, the processor."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MISSING = "(nothing)"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sha256_text(text: str) -> str:
    """Hex sha256 of UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Hex sha256 of a configuration."""
    return sha256_text(canonical(value))


def row_key(source: str, content_sha256: str) -> str:
    """The key of a row: 32 hex digits from its address relative to the corpus root and the bytes found there.

    The same picture twice has two keys; the same address and content twice (in two corpora) has one.
    """
    return sha256_text(f"{source}\0{content_sha256}")[:32]


def row_seed(key: str, use: str) -> int:
    """A 64-bit seed for what is drawn for a row. ``use`` keeps the draws of different annotators apart."""
    return int(sha256_text(f"{key}\0{use}")[:16], 16)


def processor_name() -> str:
    """The processor, as the system calls it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def package_versions(*names: str) -> dict[str, str]:
    """Versions of installed distributions, by name; a missing one is left out. OpenCV has several distributions."""
    from importlib.metadata import PackageNotFoundError, version  # not for commands that name none

    found = {}
    for name in names:
        try:
            if name == "opencv":
                import cv2

                found[name] = cv2.__version__
            else:
                found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What two configurations disagree on, one line a setting: ``params.low: 100, now 50``."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{path}: {before.get(path, MISSING)}, now {after.get(path, MISSING)}"
        for path in sorted({*before, *after})
        if canonical(before.get(path, MISSING)) != canonical(after.get(path, MISSING))
    ]
