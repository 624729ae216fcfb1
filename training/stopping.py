"""Ctrl-C, SIGTERM and a terminal that is closed end a run after the step that is under way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class Stopped(Exception):
    """Leaves what is cut short."""


@dataclass
class StopRequest:
    """Whether this process was told to stop."""

    requested: bool = False

    @contextlib.contextmanager
    def cutting_short(self, network: nn.Module) -> Iterator[None]:
        """Raises :class:`Stopped` where ``network`` is to compute something in here after a request."""

        def look(*_: Any) -> None:
            if self.requested:
                raise Stopped

        hook = network.register_forward_pre_hook(look)
        try:
            yield
        finally:
            hook.remove()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note ``SIGNALS`` instead of ending at once, but for one that is ignored (nohup); a second Ctrl-C ends at once."""
    request = StopRequest()

    def note(number: int, frame: Any) -> None:
        request.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    noted = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in noted:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in noted.items():
            signal.signal(number, handler)
