"""What a picture of a list of URLs is called: its URL's path after what all URLs of the list begin with.

Two URLs have one name only where they are spelt in two ways and mean the same. A host is part of the name where the
list has several; a query always is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

MAX_LENGTH = 8000  # characters of a URL
URL = re.compile(r"(https?)://(?:[^/?#\\@]*@)?([^/?#\\@\s]+)(/[^?#]*)?(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
PLAIN = re.compile(r"[A-Za-z0-9._~/-]*")
ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
DECODED = re.compile(r"[A-Za-z0-9._~ \-\u00a0-\U0010ffff]")  # what an escape may stand for without another meaning
DEFAULT_PORT = {"http": ":80", "https": ":443"}
NOTHING_LEFT = "./"  # the name of a URL that all others begin with


@dataclass(frozen=True)
class Parts:
    """A URL, taken apart.

    Args:
        folders: scheme, host with port, and the folders of the path.
        last: what follows the path's last slash, with the query.
    """

    folders: tuple[str, ...]
    last: str


def fault_of(url: str) -> str | None:
    """Why a text is no URL that can be fetched; None where it is one."""
    if len(url) > MAX_LENGTH:
        return f"a URL of {len(url)} characters; at most {MAX_LENGTH} are taken"
    if CONTROL.search(url):
        return "no URL: it holds control characters, or is not UTF-8"
    if not URL.fullmatch(url):
        return "no URL that begins with http:// or https://, and nothing else is fetched"
    return None


def parts_of(url: str) -> Parts:
    """A URL without a :func:`fault <fault_of>`, taken apart."""
    found = URL.fullmatch(url)
    assert found
    scheme, host = found[1].lower(), found[2].lower()
    *folders, last = _path(found[3] or "").removeprefix("/").split("/")
    return Parts((scheme, host.removesuffix(DEFAULT_PORT[scheme]), *folders), f"{last}{found[4] or ''}")


def _path(path: str) -> str:
    """A path without its dots, its escapes decoded where that changes no meaning."""
    if not PLAIN.fullmatch(path):
        path = ESCAPES.sub(_decoded, path)
    if "/." not in path:
        return path
    kept: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part != "..":
            kept += [part] if part != "." else []
        elif len(kept) > 1:
            kept.pop()
    if parts[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)


def _decoded(escapes: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(escapes[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return escapes[0].upper()
    return "".join(
        char if DECODED.fullmatch(char) and not CONTROL.match(char) else quote(char, safe="") for char in text
    )


class Prefix:
    """What the URLs of a list begin with, as far as they were added: scheme, host and whole folders."""

    def __init__(self) -> None:
        self.folders: tuple[str, ...] | None = None
        self._text = ""

    def add(self, url: str) -> None:
        """One more URL."""
        if self._is_plain(url):
            return
        folders = parts_of(url).folders
        if self.folders is not None:
            pairs = zip(self.folders, folders, strict=False)
            same = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
            folders = folders[: min(len(self.folders), len(folders)) if same is None else same]
        self.folders = folders
        self._text = f"{folders[0]}://{'/'.join(folders[1:])}/" if len(folders) > 1 else ""

    def name(self, url: str) -> str:
        """What is left of a URL that was added."""
        if self._is_plain(url):
            return url[len(self._text) :] or NOTHING_LEFT
        parts, begun = parts_of(url), len(self.folders or ())
        return "/".join((*parts.folders[begun:], parts.last)) or NOTHING_LEFT

    def _is_plain(self, url: str) -> bool:
        """Whether it begins as the others do, and nothing in the rest needs to be looked at."""
        begun = self._text and url.startswith(self._text)
        return bool(begun and PLAIN.fullmatch(url, len(self._text)) and "/." not in url)
