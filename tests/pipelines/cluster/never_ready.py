"""A preload of Dask's scheduler that lets it never get ready."""

from __future__ import annotations

import asyncio
from typing import Any


async def dask_setup(_: Any) -> None:
    """Wait until the scheduler is told to end."""
    await asyncio.Event().wait()
