"""Pictures that tests download, from servers on loopback."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from controlmill.pipelines.corpora.download import Downloader
from controlmill.pipelines.corpora.download_options import DownloadOptions
from controlmill.schemas.errors import Refused

PICTURE = b"\xff\xd8\xff" + bytes(range(256)) * 8
CAP = 1_000_000
QUICK: dict[str, Any] = {"timeout": 0.3, "retries": 0, "retry_wait": 0.001, "allow_private_hosts": True}


def fetch(url: str, max_bytes: int = CAP, **options: Any) -> bytes:
    """A body."""
    downloader = Downloader(DownloadOptions(**{**QUICK, **options}))
    try:
        return begin(downloader, url, max_bytes).result(timeout=60)
    finally:
        downloader.close()


def begin(downloader: Downloader, url: str, max_bytes: int = CAP) -> Future[bytes]:
    """A body to come."""

    def finish(data: bytes, claim: Any) -> bytes:
        claim.release()
        return data

    return downloader.begin(url, max_bytes, finish)


def refusal(url: str, max_bytes: int = CAP, **options: Any) -> Refused:
    """Why there is none."""
    with pytest.raises(Refused) as refused:
        fetch(url, max_bytes, **options)
    return refused.value
