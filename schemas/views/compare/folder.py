"""The folder of a page: one HTML file with all that it says, and the pictures beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from ...errors import MillError

PAGE, PICTURES = "index.html", "pictures"
POLICY = (  # no script or style but ours, and nothing from a network
    "default-src 'none'; script-src {script}; style-src {style}; img-src 'self' file: data:; "
    "base-uri 'none'; form-action 'none'"
)
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpg"}  # and WebP, whose name stands behind its size


def picture_ending(data: bytes) -> str | None:
    """The ending of a stored picture's file; None where the bytes are no PNG, JPEG or WebP."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((ending for signature, ending in SIGNATURES.items() if data.startswith(signature)), None)


class PageFolder:
    """A folder that is being filled, and takes its place when it is whole."""

    def __init__(self, root: Path):
        self.root = root

    def save_picture(self, name: str, data: bytes) -> str | None:
        """Write stored bytes as they are; the file's name as the page takes it, None where they are no picture."""
        ending = picture_ending(data)
        if ending is None:
            return None
        path = self.root / PICTURES / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"{PICTURES}/{name}.{ending}"

    def save_page(self, name: str, title: str, data: Mapping[str, Any]) -> None:
        """Write the page ``assets/NAME.html`` with its style, its script and its data."""
        (self.root / PAGE).write_text(page(name, title, data), "utf-8")


def page(name: str, title: str, data: Mapping[str, Any]) -> str:
    """The text of a self-contained page: whatever ``data`` says, it cannot become markup."""
    style = _asset("page.css") + _asset(f"{name}.css")
    script = _asset("page.js") + _asset(f"{name}.js")
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    parts = {
        "policy": POLICY.format(script=_digest(script), style=_digest(style)),
        "title": "".join(f"&#{ord(char)};" for char in title),
        "style": style,
        "data": text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset(f"{name}.html"))


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@contextmanager
def new_folder(out: str, may_replace: bool) -> Iterator[PageFolder]:
    """Fill a folder beside ``out``, which takes its place where the block ends, and is removed where it raises.

    Args:
        out: a local folder that is not there or is empty.
        may_replace: it may be a page that was made earlier, too.

    Raises:
        MillError: it is anything else.
    """
    if "://" in out:
        raise MillError(f"{out}: must be a local folder")
    target = Path(os.path.abspath(out))
    if target.exists() and not target.is_dir():
        raise MillError(f"{out} is no folder")
    held = set(os.listdir(target)) if target.exists() else set()
    if held and not (may_replace and PAGE in held and held <= {PAGE, PICTURES}):
        earlier = "and no page that was made earlier" if may_replace else "and answers may be in it"
        raise MillError(f"{out} is not empty, {earlier}: choose another folder")
    scratch = target.with_name(f"{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}~")
    try:
        scratch.mkdir(parents=True)
        yield PageFolder(scratch)
        if target.exists():
            shutil.rmtree(target)
        os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
