"""The options of downloads. Light: nothing here loads what a download works with."""

from __future__ import annotations

from dataclasses import dataclass

from controlmill.schemas.terminal.options import option
from controlmill.schemas.terminal.ranges import Range


@dataclass(frozen=True)
class DownloadOptions:
    """How the pictures of a list of URLs are downloaded."""

    timeout: float = option(
        10.0,
        "Seconds without a sign of life after which a download is given up; six times that for a whole one.",
        within=Range(high=3600, open_low=True),
        panel="Downloads",
    )
    retries: int = option(
        2, "Tries after the first, where the fault may pass (timeout, 429, 5xx, a cut connection).", within=Range(0, 20)
    )
    retry_wait: float = option(
        1.0, "Seconds before the first retry, doubled for each other; a server's Retry-After counts too."
    )
    connections: int = option(64, "Downloads at a time, of each worker.", within=Range(1, 1024))
    connections_per_host: int = option(8, "Downloads at a time from one host, of each worker.", within=Range(1, 1024))
    allow_private_hosts: bool = option(
        False, "Download from hosts at addresses that are not public too: this machine, a local network, a cloud's own."
    )
    ignore_opt_out: bool = option(
        False, "Take pictures whose server says X-Robots-Tag: noai or noimageai too; without it they are refused."
    )
